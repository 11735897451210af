#![doc = include_str!("../README.md")]

mod basic;
mod credential;
mod fingerprint;
mod identity;
pub mod jwt;
pub mod keyed_hash;
pub mod password;
mod refusal;
pub mod revocation;
pub mod signed_url;
pub mod static_token;

pub use basic::{BasicCredentials, basic_credentials};
pub use credential::{Presented, TokenPlace, cookies, find_token, without_tokens};
pub use identity::{AuthMethod, Identity};
pub use refusal::Refusal;
