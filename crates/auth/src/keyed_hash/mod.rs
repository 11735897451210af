//! Names a text with 128 bits. Without the secret, nobody can find two texts with the same name.
//!
//! In two steps, as UMAC does (Black, Halevi, Krawczyk, Krovetz and Rogaway, "UMAC: Fast and Secure Message
//! Authentication", CRYPTO 1999; RFC 4418):
//!
//! 1. The text, filled up with zeros, is a sequence of pairs of 64-bit words. Blocks of pairs are shortened by NH: a random
//!    word of the secret is added to each word, modulo 2⁶⁴, the two words of a pair are multiplied, and the products are
//!    added up, modulo 2¹²⁸. Of two blocks of one length that differ, the sums are the same for one in 2⁶⁴ secrets at most
//!    (the theorem on NH in that paper). A second sum uses the secret from its second pair on: both are the same for one
//!    in 2¹²⁸ at most (the Toeplitz construction there; with words of 64 bits: Krovetz, "Message Authentication on 64-bit
//!    Architectures", SAC 2006).
//! 2. The sums of all blocks and the length of the text are the input of SipHash-2-4 with a result of 128 bits, a
//!    pseudorandom function (Aumasson and Bernstein, 2012), under a secret of its own. So texts of other lengths are
//!    others, and a name tells nothing of the sums.
//!
//! Two texts have one name if all their sums are the same, or by an accident in 128 bits. For 16 bytes the sums take two
//! multiplications, where SipHash takes four rounds of 14 operations.

use std::fmt;
use std::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher24};

/// The pairs of a block, 2 KiB: most texts are shorter.
const BLOCK: usize = 128;

/// Two words.
type Pair = [u64; 2];

/// The secret on which the names depend.
#[derive(Clone)]
pub struct HashSecret {
    // One more than a block has: the second sum begins one later.
    pairs: Box<[Pair; BLOCK + 1]>,
    prf: SipHasher24,
}

/// The name of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyedHash(u64, u64);

impl HashSecret {
    /// Draws a new secret from the system's random numbers.
    ///
    /// # Panics
    /// The system has no random numbers.
    pub fn random() -> Self {
        let mut bytes = [0; (BLOCK + 2) * 16];
        aws_lc_rs::rand::fill(&mut bytes).expect("the system has random numbers");
        Self::from_bytes(&bytes)
    }

    /// The secret that consists of these random bytes.
    fn from_bytes(bytes: &[u8; (BLOCK + 2) * 16]) -> Self {
        let (chunks, _) = bytes.as_chunks::<16>();
        let pairs = std::array::from_fn(|place| pair_of(&chunks[place]));
        Self { pairs: Box::new(pairs), prf: SipHasher24::new_with_key(&chunks[BLOCK + 1]) }
    }

    /// The name of a text.
    pub fn hash(&self, text: &[u8]) -> KeyedHash {
        let mut prf = self.prf;
        for block in text.chunks(16 * BLOCK) {
            for sum in self.sums(block) {
                for word in pair_of(&sum.to_le_bytes()) {
                    prf.write_u64(word);
                }
            }
        }
        prf.write_u64(text.len() as u64);
        let hash = prf.finish128();
        KeyedHash(hash.h1, hash.h2)
    }

    /// The sums of a block.
    fn sums(&self, block: &[u8]) -> [u128; 2] {
        let (chunks, rest) = block.as_chunks::<16>();
        let secrets = self.pairs.windows(2);
        let mut sums = [0; 2];
        for (chunk, secrets) in chunks.iter().zip(secrets) {
            sums = add_products(sums, pair_of(chunk), [secrets[0], secrets[1]]);
        }
        if !rest.is_empty() {
            let mut filled = [0; 16];
            filled[..rest.len()].copy_from_slice(rest);
            let secrets = [self.pairs[chunks.len()], self.pairs[chunks.len() + 1]];
            sums = add_products(sums, pair_of(&filled), secrets);
        }
        sums
    }
}

/// A step of NH, for both sums.
#[inline(always)]
fn add_products([first, second]: [u128; 2], pair: Pair, secrets: [Pair; 2]) -> [u128; 2] {
    let product = |secret: Pair| {
        let words = [pair[0].wrapping_add(secret[0]), pair[1].wrapping_add(secret[1])];
        u128::from(words[0]) * u128::from(words[1])
    };
    [first.wrapping_add(product(secrets[0])), second.wrapping_add(product(secrets[1]))]
}

#[inline(always)]
fn pair_of(bytes: &[u8; 16]) -> Pair {
    let number = u128::from_le_bytes(*bytes);
    #[expect(clippy::cast_possible_truncation, reason = "its lower half")]
    let low = number as u64;
    [low, (number >> 64) as u64]
}

impl fmt::Debug for HashSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashSecret").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
