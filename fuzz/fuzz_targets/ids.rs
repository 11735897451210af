#![no_main]
//! Ids and names that clients send: what is taken reads back as it was written.

use libfuzzer_sys::fuzz_target;
use ssegate::event::{ChannelName, EntryId};
use ssegate::hub::Position;

fuzz_target!(|text: &[u8]| {
    if let Some(id) = EntryId::parse(text) {
        assert_eq!(id.to_string().as_bytes(), text);
        drop(id.previous());
    }
    if let Some(position) = Position::parse(text) {
        assert_eq!(position.to_string().as_bytes(), text);
    }
    if let Ok(text) = std::str::from_utf8(text)
        && let Ok(name) = ChannelName::new(text)
    {
        assert!(!text.is_empty() && text.len() <= 255 && !text.contains(char::is_control));
        assert_eq!(name.as_str(), text);
    }
    drop(ssegate::query::parse(&String::from_utf8_lossy(text)));
});
