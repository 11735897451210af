#![no_main]
//! Ids and names that clients send: whatever parses is written as it was read.

use libfuzzer_sys::fuzz_target;
use ssegate_hub::EventId;
use ssegate_hub::{ChannelName, EntryId};

fuzz_target!(|text: &[u8]| {
    if let Some(id) = EntryId::parse(text) {
        assert_eq!(id.to_string().as_bytes(), text);
        let previous = id.previous();
        assert!(previous < id || id == EntryId::ZERO);
        assert_eq!(EntryId::parse(previous.to_string().as_bytes()), Some(previous));
    }
    if let Some(position) = EventId::parse(text) {
        assert_eq!(position.to_string().as_bytes(), text);
    }
    // Only a text with `-` as its seventh character may parse as both.
    assert!(EntryId::parse(text).is_none() || EventId::parse(text).is_none() || text[6] == b'-');
    if let Ok(text) = std::str::from_utf8(text)
        && let Ok(name) = ChannelName::new(text)
    {
        assert!((1..=255).contains(&text.len()) && !text.contains(char::is_control));
        assert!(!ChannelName::RESERVED.iter().any(|reserved| text.starts_with(reserved)));
        assert_eq!(name.as_str(), text);
    }
});
