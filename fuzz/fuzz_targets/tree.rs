//! Trees: what is read is written again in a form that reads the same.

#![no_main]

use backup_core::model::{Node, SnapshotPath, decode_tree, encode_node};
use backup_fuzz::{bounded, of_json};
use libfuzzer_sys::fuzz_target;

fn read(bytes: &[u8]) -> Option<Vec<Node>> {
    let mut nodes = Vec::new();
    decode_tree(bytes, |node| {
        nodes.push(node);
        Ok(())
    })
    .ok()?;
    Some(nodes)
}

fuzz_target!(|bytes: &[u8]| {
    let Some(nodes) = bounded(of_json(bytes), || read(bytes)) else { return };
    for node in &nodes {
        let mut tree = b"{\"nodes\":[".to_vec();
        encode_node(node, &mut tree);
        tree.extend_from_slice(b"]}\n");
        let again = read(&tree).expect("what was written reads");
        let [again] = again.as_slice() else { panic!("one node became {}", again.len()) };
        assert_eq!(again.name, node.name);
        assert_eq!((again.size(), again.content(), again.subtree()), (node.size(), node.content(), node.subtree()));
        // From the second time on nothing changes any more: what deduplication lives on.
        let mut encoded = b"{\"nodes\":[".to_vec();
        encode_node(again, &mut encoded);
        encoded.extend_from_slice(b"]}\n");
        assert_eq!(read(&encoded).as_deref(), Some(&[again.clone()][..]));
        assert_eq!(encoded, tree);

        let path = SnapshotPath::root().join(&node.name);
        assert!(!path.to_string().chars().any(char::is_control), "a name speaks to the terminal");
        if node.has_safe_name() {
            assert_eq!(path.components().count(), 1, "a safe name is one component");
        }
    }
});
