//! The scripts of kept streams. The first lines of each say what it does.

use std::sync::LazyLock;

use crate::source::redis::script::RedisScript;

pub(super) static BEGIN: LazyLock<RedisScript> =
    LazyLock::new(|| RedisScript::new(include_str!("begin.lua")));
pub(super) static APPEND: LazyLock<RedisScript> =
    LazyLock::new(|| RedisScript::new(include_str!("append.lua")));
pub(super) static READ: LazyLock<RedisScript> =
    LazyLock::new(|| RedisScript::new(include_str!("read.lua")));
pub(super) static SINCE: LazyLock<RedisScript> =
    LazyLock::new(|| RedisScript::new(include_str!("since.lua")));
pub(super) static STOP: LazyLock<RedisScript> =
    LazyLock::new(|| RedisScript::new(include_str!("stop.lua")));
pub(super) static STOPPED: LazyLock<RedisScript> =
    LazyLock::new(|| RedisScript::new(include_str!("stopped.lua")));
pub(super) static INDEX: LazyLock<RedisScript> =
    LazyLock::new(|| RedisScript::new(include_str!("index.lua")));
