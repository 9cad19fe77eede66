//! Where secrets come from: files, commands, the environment, the terminal.

pub(crate) mod origin;
pub(crate) mod password;
