//! The scripts of recorded channels.

use std::sync::LazyLock;

use crate::source::redis::script::RedisScript;

pub(super) static APPEND: LazyLock<RedisScript> =
    LazyLock::new(|| RedisScript::new(include_str!("append.lua")));
pub(super) static READ: LazyLock<RedisScript> =
    LazyLock::new(|| RedisScript::new(include_str!("read.lua")));
pub(super) static NEWEST: LazyLock<RedisScript> =
    LazyLock::new(|| RedisScript::new(include_str!("newest.lua")));
pub(super) static MARK: LazyLock<RedisScript> =
    LazyLock::new(|| RedisScript::new(include_str!("mark.lua")));
