#!/bin/sh
# Verifies exported evidence: the signature of each record, and that each names the hash of the one before it.
# Needs openssl 3 and sha256sum. Ends with 0 when nothing is wrong.
#
#   sh verify.sh [KEY.pem...]   with the keys that you were given: records signed with any other are then wrong, and so is a
#                               folder that has none of one of these
set -u
wrong=0
say_wrong() {
    echo "WRONG: $1"
    wrong=1
}
field() { # the value of a plain field of a record: field NAME FILE
    grep -o "\"$1\":\(\"[0-9a-f]*\"\|[0-9]*\)" "$2" | head -n 1 | cut -d : -f 2 | tr -d '"'
}
digits() { # of a public key, as records have it
    openssl pkey -pubin -in "$1" -outform DER 2>/dev/null | tail -c 32 | od -An -v -tx1 | tr -d ' \n'
}
given= found=
for file in "$@"; do
    key=$(digits "$file")
    [ -n "$key" ] || say_wrong "$file is no public key"
    given="$given $key"
done
for chain in records/*/; do
    count=0
    before=
    number_before=
    key=
    if [ -e "${chain}key.pem" ]; then
        key=$(digits "${chain}key.pem")
        found="$found $key"
    fi
    case "$given " in
    ' ' | *" $key "*) ;;
    *) [ "$chain" = records/unsigned/ ] || say_wrong "$chain is not signed with a key that you were given" ;;
    esac
    for record in "$chain"*.json; do
        [ -e "$record" ] || continue
        count=$((count + 1))
        if [ -e "${chain}key.pem" ]; then
            openssl pkeyutl -verify -pubin -inkey "${chain}key.pem" -rawin -in "$record" \
                -sigfile "${record%.json}.sig" >/dev/null 2>&1 || say_wrong "$record: the signature does not fit"
            [ "$(field public_key "$record")" = "$key" ] || say_wrong "$record names another key than ${chain}key.pem"
        fi
        number=$(field sequence "$record")
        if [ -n "$before" ]; then
            if [ "$(field previous "$record")" != "$before" ] || [ "$number" != $((number_before + 1)) ]; then
                say_wrong "$record does not follow the record before it"
            fi
        elif [ "$number" != 1 ]; then
            echo "note: $chain begins with number $number: what was before it is not in this folder"
        fi
        before=$(sha256sum "$record" | cut -d ' ' -f 1)
        number_before=$number
    done
    signed="signed with the key of ${chain}key.pem"
    [ -e "${chain}key.pem" ] || signed="NOT signed"
    echo "$chain: $count records, $signed; the end is number ${number_before:-0} with the hash ${before:-none}"
done
for file in "$@"; do
    case "$found " in
    *" $(digits "$file") "*) ;;
    *) say_wrong "there is no record signed with the key of $file" ;;
    esac
done
if [ "$wrong" = 0 ]; then
    [ -n "$given" ] && what="the ends" || what="the keys and the ends"
    echo "nothing is wrong; compare $what with those that you noted down"
fi
exit "$wrong"
