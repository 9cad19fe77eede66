//! The spelling of trees: known answers, refusals, and that every tree reads back.

use proptest::prelude::*;

use super::*;

fn decode(bytes: &[u8]) -> Result<Vec<Node>, FormatError> {
    let mut nodes = Vec::new();
    decode_tree(bytes, |node| {
        nodes.push(node);
        Ok(())
    })?;
    Ok(nodes)
}

fn encode(nodes: &[Node]) -> Vec<u8> {
    let mut writer = TreeWriter::default();
    for node in nodes {
        writer.push(node).unwrap();
    }
    writer.finish()
}

#[test]
fn the_empty_tree_has_the_id_that_restic_gives_it() {
    assert_eq!(TreeWriter::default().finish(), EMPTY_TREE);
    assert_eq!(BlobId::of(EMPTY_TREE).to_string(), "ac08ce34ba4f8123618661bef2425f7028ffb9ac740578a3ee88684d2523fee8");
    assert_eq!(decode(EMPTY_TREE), Ok(Vec::new()));
}

#[test]
fn a_tree_is_written_field_by_field_as_restic_writes_it() {
    let text = concat!(
        r#"{"nodes":[{"name":"a\u0026\\\"b","type":"file","mode":8389028,"mtime":"2024-02-29T23:59:59.5Z","#,
        r#""atime":"2024-02-29T23:59:59.5Z","ctime":"1970-01-01T00:00:00Z","uid":0,"gid":1000,"user":"root","#,
        r#""inode":7,"device_id":2049,"size":3,"links":2,"extended_attributes":[{"name":"user.x","value":"AQ=="}],"#,
        r#""content":["ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"]},"#,
        r#"{"name":"d","type":"dir","mode":2147484141,"mtime":"1970-01-01T00:00:00Z","atime":"1970-01-01T00:00:00Z","#,
        r#""ctime":"1970-01-01T00:00:00Z","uid":0,"gid":0,"content":null,"#,
        r#""subtree":"ac08ce34ba4f8123618661bef2425f7028ffb9ac740578a3ee88684d2523fee8"},"#,
        r#"{"name":"l","type":"symlink","mode":134218239,"mtime":"1970-01-01T00:00:00Z","atime":"1970-01-01T00:00:00Z","#,
        r#""ctime":"1970-01-01T00:00:00Z","uid":0,"gid":0,"links":1,"linktarget":"x\ufffd(","#,
        r#""linktarget_raw":"eMMo","content":null}]}"#,
        "\n"
    );
    let nodes = decode(text.as_bytes()).unwrap();
    assert_eq!(nodes[0].name, b"a&\"b");
    assert_eq!(nodes[0].metadata.mode, 0o4644);
    assert_eq!(nodes[1].subtree(), Some(BlobId::of(EMPTY_TREE)));
    assert_eq!(nodes[2].kind, NodeKind::Symlink { target: b"x\xc3(".to_vec() });
    assert_eq!(String::from_utf8(encode(&nodes)).unwrap(), text);
}

#[test]
fn a_kind_that_is_an_empty_word_reads_back() {
    let node = Node { name: b"a".to_vec(), kind: NodeKind::Other(String::new()), metadata: Metadata::default() };
    assert_eq!(decode(&encode(std::slice::from_ref(&node))).unwrap(), [node]);
}

#[test]
fn names_out_of_order_are_refused() {
    let node = |name: &[u8]| Node { name: name.to_vec(), kind: NodeKind::Fifo, metadata: Metadata::default() };
    let mut writer = TreeWriter::default();
    writer.push(&node(b"b")).unwrap();
    assert!(writer.push(&node(b"b")).is_err());
    assert!(writer.push(&node(b"a")).is_err());
    writer.push(&node(b"b\xff")).unwrap();
}

#[test]
fn what_is_no_tree_is_refused() {
    for text in [
        "",
        "[]",
        "{}",
        "{\"nodes\":3}",
        "{\"nodes\":[{}]}",
        "{\"nodes\":[]} x",
        "{\"nodes\":[],\"nodes\":[]}",
        "{\"nodes\":[{\"name\":\"\\\"\",\"type\":\"file\"}]}",
        "{\"nodes\":[{\"name\":\"a\",\"type\":\"file\",\"uid\":-1}]}",
        "{\"nodes\":[{\"name\":\"a\",\"type\":\"file\",\"content\":[\"00\"]}]}",
    ] {
        assert!(decode(text.as_bytes()).is_err(), "{text}");
    }
}

prop_compose! {
    fn metadata()(
        mode in 0..0o10000_u32, seconds in 0..4_000_000_000_i64, nanoseconds in 0..1_000_000_000_i32, uid: u32, gid: u32,
        user in any::<String>(), inode: u64, device_id: u64, links: u64,
        xattrs in proptest::collection::vec((any::<String>(), proptest::collection::vec(any::<u8>(), 0..20)), 0..3),
        error in any::<String>(),
    ) -> Metadata {
        let time = Timestamp::new(seconds, nanoseconds).unwrap();
        let xattrs = xattrs.into_iter().map(|(name, value)| Xattr { name: name.into_bytes(), value }).collect();
        Metadata { mode, mtime: Some(time), atime: Some(time), ctime: Timestamp::default(), uid, gid, user, group: "g".into(), inode,
            device_id, links, xattrs, generic_attributes: None, error }
    }
}

fn kind() -> impl Strategy<Value = NodeKind> {
    let id = || any::<[u8; 32]>().prop_map(BlobId::from_bytes);
    prop_oneof![
        (any::<u64>(), proptest::collection::vec(id(), 0..4))
            .prop_map(|(size, content)| NodeKind::File { size, content }),
        proptest::option::of(id()).prop_map(|subtree| NodeKind::Dir { subtree }),
        proptest::collection::vec(any::<u8>(), 0..30).prop_map(|target| NodeKind::Symlink { target }),
        any::<u64>().prop_map(|device| NodeKind::BlockDevice { device }),
        any::<u64>().prop_map(|device| NodeKind::CharDevice { device }),
        Just(NodeKind::Fifo),
        Just(NodeKind::Socket),
        Just(NodeKind::Other("irregular".into())),
    ]
}

proptest! {
    #[test]
    fn every_tree_reads_back(
        entries in proptest::collection::btree_map(proptest::collection::vec(any::<u8>(), 1..20), (kind(), metadata()), 0..6)
    ) {
        let nodes: Vec<_> = entries.into_iter().map(|(name, (kind, metadata))| Node { name, kind, metadata }).collect();
        prop_assert_eq!(decode(&encode(&nodes)).unwrap(), nodes);
    }
}
