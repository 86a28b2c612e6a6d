//! Many doubles at once: counters for each exponent, so that adding a double shifts and splits nothing.
//!
//! Neal's large superaccumulator, with signed counters, and batches too short to overflow them.

use super::{BIAS, ExactSum};

/// Below this many values the sparse sum is faster than clearing and reading all counters.
const FEW: usize = 512;

/// Two counters for each exponent, taken in turn: equal exponents in a row need not wait for each other.
const LANES: usize = 2;

/// Mantissas are below 2^53, so that this many of them stay below 2^63 in each lane.
const BATCH: usize = LANES << 10;

/// Exponents collected together, most of them never seen.
const BLOCK: usize = 16;

/// The bit of a normal double's mantissa that is not stored.
const HIDDEN: u64 = 1 << 52;

type Counters = [[i64; LANES]; 2048];

pub(super) fn add_slice(sum: &mut ExactSum, xs: &[f64]) {
    if xs.len() < FEW {
        return xs.iter().for_each(|x| sum.add(*x));
    }
    let mut counters = [[0; LANES]; 2048];
    for batch in xs.chunks(BATCH) {
        for (i, x) in batch.iter().enumerate() {
            add(sum, &mut counters, i % LANES, *x);
        }
        collect(sum, &mut counters);
    }
}

#[inline]
fn add(sum: &mut ExactSum, counters: &mut Counters, lane: usize, x: f64) {
    let bits = x.to_bits();
    let exponent = (bits >> 52) as usize & 0x7ff;
    // One comparison for all that has no hidden bit: zeros and subnormals below, NaN and the infinities above.
    if exponent.wrapping_sub(1) >= 0x7fe {
        return sum.add(x);
    }
    let mantissa = (bits & (HIDDEN - 1) | HIDDEN) as i64;
    let sign = bits as i64 >> 63;
    counters[exponent][lane] += (mantissa ^ sign) - sign;
}

/// Moves the counters into the sum, and leaves zeros.
fn collect(sum: &mut ExactSum, counters: &mut Counters) {
    let blocks = counters.as_chunks_mut::<BLOCK>().0;
    for (block, place) in blocks.iter_mut().zip((BIAS - 1075..).step_by(BLOCK)) {
        if block.as_flattened().iter().fold(0, |any, mantissa| any | mantissa) == 0 {
            continue;
        }
        let total = block.iter().rev().fold(0, |total: i128, lanes| {
            lanes.iter().fold(total << 1, |total, mantissa| total + i128::from(*mantissa))
        });
        sum.add_scaled(total.unsigned_abs(), place, (total >> 127) as i64);
        block.fill([0; LANES]);
    }
}
