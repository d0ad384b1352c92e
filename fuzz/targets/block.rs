//! The stored form of a block: never more than its buffer, and never content that its name does not say.

#![no_main]

use lhrun::backupstore::{block::Checksum, codec};
use libfuzzer_sys::fuzz_target;

/// Raw bytes of the block asked for; small, so that many are tried.
const LENGTH: usize = 4096;

fuzz_target!(|body: &[u8]| {
    let mut out = [0; LENGTH];
    let zeros = Checksum::of_zeros(LENGTH as u64);
    if let Ok(unpacked) = codec::unpack(body, &zeros, &mut out) {
        assert_eq!(unpacked.data, [0; LENGTH]);
    }
    // The name of whatever it holds: the same bytes must read as that block.
    let _ = codec::unpack(body, &Checksum::of(body), &mut out);
});
