//! Where secrets come from. None is ever an argument, printed, or part of an error.

pub(crate) mod password;
