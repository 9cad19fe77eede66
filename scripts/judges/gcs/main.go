// A Google Cloud Storage of the tests' own, in memory: fake-gcs-server, and before it what that lacks of the XML
// interface: a plain PUT of an object, with its precondition and its checksum.
//
//	gcs-server HOST:PORT BUCKET
package main

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"strings"

	"bytes"

	"github.com/fsouza/fake-gcs-server/fakestorage"
)

func main() {
	address, bucket := os.Args[1], os.Args[2]
	server, err := fakestorage.NewServerWithOptions(fakestorage.Options{NoListener: true, PublicHost: address})
	if err != nil {
		log.Fatal(err)
	}
	server.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: bucket})
	inner := server.HTTPHandler()
	log.Fatal(http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			if !put(w, r) {
				return
			}
		}
		inner.ServeHTTP(w, r)
	})))
}

// put makes the request one of the JSON interface; it answers itself, and returns false, when the body is not what its
// checksum says.
func put(w http.ResponseWriter, r *http.Request) bool {
	bucket, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return false
	}
	sum := binary.BigEndian.AppendUint32(nil, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	if r.Header.Get("x-goog-hash") != "crc32c="+base64.StdEncoding.EncodeToString(sum) {
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, "<Error><Code>BadDigest</Code></Error>")
		return false
	}
	query := url.Values{"uploadType": {"media"}, "name": {name}}
	if generation := r.Header.Get("x-goog-if-generation-match"); generation != "" {
		query.Set("ifGenerationMatch", generation)
	}
	w.Header().Set("ETag", `"unknown"`)
	r.Method = http.MethodPost
	r.URL = &url.URL{Path: "/upload/storage/v1/b/" + bucket + "/o", RawQuery: query.Encode()}
	r.RequestURI = r.URL.RequestURI()
	r.Body = io.NopCloser(bytes.NewReader(body))
	return true
}
