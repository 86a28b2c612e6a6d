//! Exact sums of floats: why a total here never depends on the order of its events.
//!
//! Adding doubles one by one rounds after every step, so `(0.1 + 0.2) + 0.3` and `0.1 + (0.2 + 0.3)` differ, and
//! `1e16 + 1 - 1e16` loses the 1. A feature store adds the same events in many orders (as they arrive, tile by
//! tile, after a restart, in a training set), and each would give a value of its own.
//!
//! An [`ExactSum`] never rounds. Every finite double is an integer times a power of two, so a total of doubles is
//! one long integer in fixed point. That integer is kept whole, and integer addition is commutative and
//! associative: equal multisets of values give equal totals, bit for bit. Rounding happens once, to the nearest
//! double with ties to even, when a value is asked for:
//!
//! ```
//! use tidemark_kernel::exact::ExactSum;
//!
//! let mut sum = ExactSum::default();
//! for x in [1e308, 1e308, 1.0, 1e-300, -1e308, -1e308] {
//!     sum.add(x); // plain addition would be infinite after the second
//! }
//! assert_eq!(sum.to_f64(), 1.0);
//! sum.add(-1.0);
//! assert_eq!(sum.to_f64(), 1e-300);
//! ```
//!
//! What a total *does* hold is the values as doubles: `0.1` counts as the double next to 0.1, as everywhere.
//!
//! # How
//!
//! The integer is cut into limbs of 32 bits, each held in an `i64`, and only the limbs that the values touch are
//! stored: three or four where values are money, without an allocation. Adding a double splits its 53 bits over
//! three limbs. The 32 spare bits of each limb take up the carries, which are propagated only once in a billion
//! additions, so that adding and merging are a few plain integer additions. Several limb vectors mean the same
//! integer; equality and bytes go through [`Number`], of which there is one per integer.
//!
//! This is the small superaccumulator of Radford M. Neal, *Fast exact summation using small and large
//! superaccumulators*, 2015, arXiv:1505.05571, with a sparse window of limbs instead of all of them.
//!
//! NaN and the infinities are no numbers to add. Three flags remember which of them were seen.

use num_bigint::BigInt;
use smallvec::SmallVec;

use crate::codec::{DecodeError, Reader, Writer};
pub use number::{Number, ratio_to_f64};
pub(crate) use number::{int_ratio, spread};

#[cfg(test)]
pub(crate) mod naive;
mod number;
#[cfg(test)]
mod tests;

/// Bits of a limb that belong to it; the rest of the `i64` holds carries.
const LIMB_BITS: u32 = 32;

/// Weight of the lowest bit of limb 0, as a negative exponent of two: whole limbs, and low enough for the square
/// of the smallest subnormal, 2^-2148.
const BIAS: u32 = 68 * LIMB_BITS;

/// Limbs from the lowest bit of a square of a double to the highest of 2^64 such squares, 2^2112, and its carry.
const LIMBS: usize = 135;

/// How many additions may be pending: each adds less than 2^32 to a limb, and all of them stay below 2^62.
const PENDING_MAX: u32 = 1 << 30;

/// An exact sum of doubles, integers and their squares; the order of additions makes no difference.
///
/// Exact for up to 2^64 additions. Infinities and NaN are remembered beside the finite total.
#[derive(Clone, Debug, Default)]
pub struct ExactSum {
    /// The total is the sum of `limbs[i] * 2^(32 (base + i) - BIAS)`; empty means zero.
    limbs: SmallVec<[i64; 4]>,
    base: u32,
    /// Bounds the limbs: each is at most `pending * 2^32` in magnitude.
    pending: u32,
    special: Special,
}

/// Which values that are not finite were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Special(u8);

impl Special {
    const NAN: u8 = 1;
    const POSITIVE: u8 = 2;
    const NEGATIVE: u8 = 4;
    const ALL: u8 = Self::NAN | Self::POSITIVE | Self::NEGATIVE;

    const fn of(x: f64) -> Self {
        Self(match x {
            f64::INFINITY => Self::POSITIVE,
            f64::NEG_INFINITY => Self::NEGATIVE,
            _ => Self::NAN,
        })
    }

    const fn total(self) -> Option<f64> {
        match self.0 {
            0 => None,
            Self::POSITIVE => Some(f64::INFINITY),
            Self::NEGATIVE => Some(f64::NEG_INFINITY),
            _ => Some(f64::NAN),
        }
    }
}

/// A finite double: `±mantissa * 2^(place - BIAS)`.
struct Finite {
    /// 0, or -1 where negative.
    sign: i64,
    mantissa: u64,
    place: u32,
}

impl Finite {
    /// None for NaN and the infinities.
    #[inline]
    const fn new(x: f64) -> Option<Self> {
        let bits = x.to_bits();
        let exponent = (bits >> 52) as u32 & 0x7ff;
        if exponent == 0x7ff {
            return None;
        }
        // Subnormals have the exponent of the smallest normal double and no hidden bit.
        let normal = (exponent != 0) as u32;
        let mantissa = (bits & ((1 << 52) - 1)) | ((normal as u64) << 52);
        Some(Self { sign: bits as i64 >> 63, mantissa, place: exponent + (1 - normal) + (BIAS - 1075) })
    }
}

impl ExactSum {
    /// Adds a double.
    #[inline]
    pub fn add(&mut self, x: f64) {
        let Some(Finite { sign, mantissa, place }) = Finite::new(x) else {
            self.special.0 |= Special::of(x).0;
            return;
        };
        if mantissa != 0 {
            self.add_mantissa(mantissa, place, sign);
        }
    }

    /// Adds the exact square of a double. NaN and infinities count as themselves, not squared.
    pub fn add_square(&mut self, x: f64) {
        match Finite::new(x) {
            Some(Finite { mantissa, place, .. }) => {
                self.add_scaled(u128::from(mantissa) * u128::from(mantissa), 2 * place - BIAS, 0);
            }
            None => self.special.0 |= Special::of(x).0,
        }
    }

    /// Adds an integer.
    pub fn add_int(&mut self, x: i64) {
        self.add_scaled(u128::from(x.unsigned_abs()), BIAS, x >> 63);
    }

    /// Adds the exact square of an integer.
    pub fn add_int_square(&mut self, x: i64) {
        let magnitude = u128::from(x.unsigned_abs());
        self.add_scaled(magnitude * magnitude, BIAS, 0);
    }

    /// Adds everything that `other` has added.
    #[inline]
    pub fn merge(&mut self, other: &Self) {
        self.special.0 |= other.special.0;
        if other.limbs.is_empty() {
            return;
        }
        if self.pending + other.pending > PENDING_MAX {
            return self.merge_carried(other.clone());
        }
        let limbs = self.window(other.base, other.limbs.len());
        for (mine, theirs) in limbs.iter_mut().zip(&other.limbs) {
            *mine += theirs;
        }
        self.pending += other.pending;
    }

    /// The total, rounded once to the nearest double, ties to even. Zero is +0; too large is infinite; NaN where a
    /// NaN or infinities of both signs were added.
    #[must_use]
    pub fn to_f64(&self) -> f64 {
        self.special().unwrap_or_else(|| self.number().to_f64())
    }

    /// The total over a count, rounded once; a total that is not finite stays as it is.
    #[must_use]
    pub fn mean(&self, count: u64) -> f64 {
        self.special().unwrap_or_else(|| self.number().divided_by(count))
    }

    /// The total where it is not finite: an infinity or NaN.
    #[must_use]
    pub const fn special(&self) -> Option<f64> {
        self.special.total()
    }

    /// The exact total of the finite values.
    #[must_use]
    pub fn number(&self) -> Number {
        Number::carried(self.base as i32, self.limbs.iter().map(|limb| i128::from(*limb)))
    }

    /// The exact total of the finite values as `integer * 2^exponent`.
    #[must_use]
    pub fn to_big(&self) -> (BigInt, i64) {
        let number = self.number();
        (number.to_big(), number.exponent())
    }

    /// Whether nothing but zeros was added, or everything cancelled out.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.special.0 == 0 && self.number().is_zero()
    }

    /// Writes the one canonical form: flags, sign and length in a varint, then, unless zero, the place of the
    /// lowest digit and the digits of the magnitude.
    pub fn encode(&self, out: &mut Writer) {
        let number = self.number();
        let header = number.digits().len() << 4 | usize::from(number.is_negative()) << 3;
        out.varint(header as u64 | u64::from(self.special.0));
        number.encode(out);
    }

    /// Reads a sum.
    ///
    /// # Errors
    /// Fails where the bytes are not the canonical form of a sum.
    pub fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let header = from.varint()?;
        let (negative, special) = (header & 8 != 0, Special(header as u8 & Special::ALL));
        let (base, digits) = Number::read(negative, header >> 4, from)?;
        let sign = if negative { -1 } else { 1 };
        let limbs: SmallVec<[i64; 4]> =
            digits.iter().map(|digit| sign * i64::from(u32::from_le_bytes(*digit))).collect();
        let pending = u32::from(!limbs.is_empty());
        Ok(Self { limbs, base, pending, special })
    }

    /// Whether the sum that follows is one of nothing.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub(crate) fn check(from: &mut Reader<'_>) -> Result<bool, DecodeError> {
        let header = from.varint()?;
        Number::read(header & 8 != 0, header >> 4, from)?;
        Ok(header == 0)
    }

    /// Adds `±mantissa * 2^(place - BIAS)`; the sign is 0 or -1.
    #[inline]
    fn add_mantissa(&mut self, mantissa: u64, place: u32, sign: i64) {
        // Shifted by less than a limb, 64 bits touch three limbs, always the same ones for one exponent.
        let wide = u128::from(mantissa) << (place % LIMB_BITS);
        let limbs = self.window(place / LIMB_BITS, 3);
        limbs[0] += signed(wide as u32, sign);
        limbs[1] += signed((wide >> LIMB_BITS) as u32, sign);
        limbs[2] += signed((wide >> (2 * LIMB_BITS)) as u32, sign);
        self.pend(1);
    }

    /// As [`ExactSum::add_mantissa`], of any width.
    fn add_scaled(&mut self, magnitude: u128, place: u32, sign: i64) {
        if magnitude == 0 {
            return;
        }
        let shift = place % LIMB_BITS;
        let bits = u128::BITS - magnitude.leading_zeros() + shift;
        // The lowest limb first: shifted left as a whole, 128 bits would overflow.
        let mut digit = (magnitude << shift) as u32;
        let mut rest = magnitude >> (LIMB_BITS - shift);
        for limb in self.window(place / LIMB_BITS, bits.div_ceil(LIMB_BITS) as usize) {
            *limb += signed(digit, sign);
            digit = rest as u32;
            rest >>= LIMB_BITS;
        }
        self.pend(1);
    }

    /// The limbs from `first` on, made to exist.
    #[inline]
    fn window(&mut self, first: u32, len: usize) -> &mut [i64] {
        // Wraps where `first` is below the base, and is then beyond every length.
        let mut start = first.wrapping_sub(self.base) as usize;
        if start + len > self.limbs.len() {
            self.grow(first, len);
            start = (first - self.base) as usize;
        }
        &mut self.limbs[start..start + len]
    }

    #[cold]
    fn grow(&mut self, first: u32, len: usize) {
        if self.limbs.is_empty() {
            self.base = first;
        }
        let below = self.base.saturating_sub(first);
        self.limbs.insert_many(0, (0..below).map(|_| 0));
        self.base -= below;
        let end = (first - self.base) as usize + len;
        if end > self.limbs.len() {
            self.limbs.resize(end, 0);
        }
    }

    /// Notes that each limb grew by at most `additions * 2^32`.
    #[inline]
    fn pend(&mut self, additions: u32) {
        self.pending += additions;
        if self.pending >= PENDING_MAX {
            self.carry();
        }
    }

    #[cold]
    fn merge_carried(&mut self, mut other: Self) {
        self.carry();
        other.carry();
        self.merge(&other);
    }

    /// Propagates the carries, so that every limb is within ±2^31.
    #[cold]
    fn carry(&mut self) {
        let mut carry = 0;
        for limb in &mut self.limbs {
            *limb += carry;
            carry = (*limb + (1 << (LIMB_BITS - 1))) >> LIMB_BITS;
            *limb -= carry << LIMB_BITS;
        }
        if carry != 0 {
            self.limbs.push(carry);
        }
        self.pending = u32::from(!self.limbs.is_empty());
    }
}

/// Equality of exact totals, and of the infinities and NaN seen.
impl PartialEq for ExactSum {
    fn eq(&self, other: &Self) -> bool {
        self.special == other.special && self.number() == other.number()
    }
}

impl Eq for ExactSum {}

/// The digit, negated where the sign is -1.
#[inline]
const fn signed(digit: u32, sign: i64) -> i64 {
    (digit as i64 ^ sign) - sign
}
