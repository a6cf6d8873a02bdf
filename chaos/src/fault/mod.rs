//! What goes wrong.

pub mod process;
