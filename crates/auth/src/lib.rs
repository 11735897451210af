#![doc = include_str!("../README.md")]

mod credential;
mod fingerprint;
mod identity;
pub mod jwt;
mod refusal;
pub mod signed_url;
pub mod static_token;

pub use credential::{Presented, TokenPlace, find_token, without_tokens};
pub use identity::Identity;
pub use refusal::Refusal;
