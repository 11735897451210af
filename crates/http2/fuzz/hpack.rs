#![no_main]
//! Header blocks of any octets; and well-formed blocks, whose fields are compared with those of a simple
//! dynamic table.

use std::collections::VecDeque;

use http::Version;
use libfuzzer_sys::fuzz_target;
use ssegate_http2::decode_header_blocks;

fuzz_target!(|input: &[u8]| {
    let Some((first, rest)) = input.split_first() else { return };
    if first & 1 == 0 { any(rest) } else { well_formed(rest) }
});

/// Blocks in a row, each with its length in the octet before it.
fn any(mut rest: &[u8]) {
    let blocks = std::iter::from_fn(move || {
        let (&length, more) = rest.split_first()?;
        let (block, left) = more.split_at(usize::from(length).min(more.len()));
        rest = left;
        Some(block)
    });
    for (lines, request) in decode_header_blocks(blocks).into_iter().flatten() {
        let Some(request) = request else { continue };
        assert_eq!(request.version(), Version::HTTP_2);
        let headers = request.headers();
        assert_eq!(headers.len(), lines.len(), "what is left out makes no request: {lines:?}");
        for (name, value) in headers {
            assert!(!value.as_bytes().contains(&b'\n') && !value.as_bytes().contains(&b'\r'));
            let name = name.as_str();
            assert!(!["connection", "transfer-encoding", "upgrade", "keep-alive"].contains(&name));
        }
    }
}

/// RFC 7541, section 2.3.2: the newest first.
struct Table {
    fields: VecDeque<(String, String)>,
    max_size: usize,
}

impl Table {
    fn shrink(&mut self) {
        let size = |(name, value): &(String, String)| name.len() + value.len() + 32;
        while self.fields.iter().map(size).sum::<usize>() > self.max_size {
            self.fields.pop_back();
        }
    }
}

/// Well-formed blocks. Every three octets of the input choose a field, or begin a block with a table size update.
fn well_formed(input: &[u8]) {
    let mut table = Table { fields: VecDeque::new(), max_size: 4096 };
    let mut blocks = vec![Vec::new()];
    let mut expected = vec![Vec::new()];
    for op in input.chunks_exact(3) {
        let (a, b) = (usize::from(op[1]), usize::from(op[2]));
        let known = table.fields.get(a % table.fields.len().max(1)).cloned();
        let index = 62 + a % table.fields.len().max(1);
        let name = format!("x{}", "n".repeat(a % 64));
        let value = "v".repeat(b * 9);
        let mut block = blocks.pop().expect("one at least");
        let (field, is_added) = match (op[0] % 6, known) {
            (0, _) => {
                block.push(0x80 | 16);
                (("accept-encoding".to_owned(), "gzip, deflate".to_owned()), false)
            }
            (1, Some(known)) => {
                integer(&mut block, 0x80, 7, index);
                (known, false)
            }
            (2, Some((name, _))) => {
                integer(&mut block, 0x40, 6, index);
                string(&mut block, &value);
                ((name, value), true)
            }
            (3, Some((name, _))) => {
                integer(&mut block, 0x10, 4, index);
                string(&mut block, &value);
                ((name, value), false)
            }
            (4, _) => {
                blocks.push(block);
                block = Vec::new();
                expected.push(Vec::new());
                table.max_size = a * 16;
                integer(&mut block, 0x20, 5, table.max_size);
                table.shrink();
                blocks.push(block);
                continue;
            }
            _ => {
                block.push(0x40);
                string(&mut block, &name);
                string(&mut block, &value);
                ((name, value), true)
            }
        };
        if is_added {
            table.fields.push_front(field.clone());
            table.shrink();
        }
        expected.last_mut().expect("one at least").push(format!("{}: {}", field.0, field.1));
        blocks.push(block);
    }
    let decoded = decode_header_blocks(blocks.iter().map(|block| &block[..]));
    for (decoded, expected) in decoded.into_iter().zip(expected) {
        // The decoder stops at a block that is far too large.
        let Some((lines, _)) = decoded else {
            let size: usize = expected.iter().map(String::len).sum();
            assert!(size + 32 * expected.len() > 16 << 10, "{expected:?} was refused");
            return;
        };
        assert_eq!(lines, expected);
    }
}

/// Section 5.1.
fn integer(block: &mut Vec<u8>, flags: u8, prefix: u32, value: usize) {
    let most = (1 << prefix) - 1;
    if value < most {
        block.push(flags | value as u8);
        return;
    }
    block.push(flags | most as u8);
    let mut rest = value - most;
    while rest >= 0x80 {
        block.push(0x80 | rest as u8);
        rest >>= 7;
    }
    block.push(rest as u8);
}

/// Section 5.2, without Huffman's code.
fn string(block: &mut Vec<u8>, text: &str) {
    integer(block, 0, 7, text.len());
    block.extend_from_slice(text.as_bytes());
}
