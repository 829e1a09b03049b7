//! What customers' browsers see.

pub mod pages;
