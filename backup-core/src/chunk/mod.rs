//! stand-in
/// stand-in
#[derive(Clone, Debug)]
pub struct Chunking;
