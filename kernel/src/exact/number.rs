//! The canonical form of an exact sum, and the one place where it is rounded to a double.

use num_bigint::{BigInt, BigUint, Sign};
use num_traits::ToPrimitive;
use smallvec::{SmallVec, smallvec};

use super::{BIAS, LIMB_BITS, LIMBS};
use crate::codec::{DecodeError, Reader, Writer};

/// How many bytes a digit is stored in.
const DIGIT: usize = size_of::<u32>();

/// An exact binary number in its one canonical form: sign, digits of 32 bits, and the place of the lowest.
///
/// The lowest and the highest digit are not zero; zero has no digits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Number {
    negative: bool,
    /// The magnitude is the sum of `digits[i] * 2^(32 (base + i) - BIAS)`.
    digits: SmallVec<[u32; 12]>,
    base: i32,
}

impl Number {
    /// The sum of `limbs[i] * 2^(32 (base + i) - BIAS)`, of limbs below 2^126 in magnitude.
    pub(crate) fn carried(base: i32, limbs: impl Iterator<Item = i128>) -> Self {
        let mut digits = SmallVec::new();
        let mut carry = 0;
        for limb in limbs {
            carry += limb;
            digits.push(carry as u32);
            carry >>= LIMB_BITS;
        }
        while carry != 0 && carry != -1 {
            digits.push(carry as u32);
            carry >>= LIMB_BITS;
        }
        let negative = carry == -1;
        if negative {
            negate(&mut digits);
        }
        Self::trimmed(negative, digits, base)
    }

    fn trimmed(negative: bool, mut digits: SmallVec<[u32; 12]>, base: i32) -> Self {
        let used = digits.iter().rposition(|digit| *digit != 0).map_or(0, |last| last + 1);
        digits.truncate(used);
        let zeros = digits.iter().take_while(|digit| **digit == 0).count();
        if zeros > 0 {
            digits.drain(..zeros);
        }
        if digits.is_empty() { Self::default() } else { Self { negative, digits, base: base + zeros as i32 } }
    }

    /// Whether it is zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    /// Whether it is below zero.
    #[must_use]
    pub const fn is_negative(&self) -> bool {
        self.negative
    }

    /// The digits of its magnitude, lowest first.
    pub(crate) fn digits(&self) -> &[u32] {
        &self.digits
    }

    /// The exponent of two that its digits, taken as an integer, are multiplied with.
    pub(crate) fn exponent(&self) -> i64 {
        i64::from(self.base) * i64::from(LIMB_BITS) - i64::from(BIAS)
    }

    /// Its digits as an integer; times two to the power of the exponent it is the number.
    pub(crate) fn to_big(&self) -> BigInt {
        let sign = if self.negative { Sign::Minus } else { Sign::Plus };
        BigInt::from_slice(sign, &self.digits)
    }

    /// The nearest double, ties to even; beyond the largest, an infinity.
    #[must_use]
    pub fn to_f64(&self) -> f64 {
        signed(self.negative, self.leading().round())
    }

    /// The quotient as the nearest double, rounded once. Division by zero gives NaN.
    #[must_use]
    pub fn divided_by(&self, divisor: u64) -> f64 {
        signed(self.negative, self.leading().divided_by(divisor))
    }

    /// As [`Number::divided_by`], for a divisor that may need 128 bits.
    #[must_use]
    pub fn divided_by_wide(&self, divisor: u128) -> f64 {
        match u64::try_from(divisor) {
            Ok(divisor) => self.divided_by(divisor),
            Err(_) => ratio_to_f64(&self.to_big(), &BigUint::from(divisor), self.exponent()),
        }
    }

    fn leading(&self) -> Leading {
        let digit = |nth| self.digits.iter().rev().nth(nth).copied().unwrap_or(0);
        let bits = (0..4).fold(0u128, |bits, nth| bits << LIMB_BITS | u128::from(digit(nth)));
        let shift = digit(0).leading_zeros() % LIMB_BITS;
        let next = u64::from(digit(4)) << shift;
        Leading {
            bits: bits << shift | u128::from(next >> LIMB_BITS),
            // With a fifth digit below the leading 128 bits, then the lowest digit, never zero, lies there.
            inexact: next as u32 != 0 || self.digits.len() > 5,
            exponent: self.exponent() + i64::from(LIMB_BITS) * (self.digits.len() as i64 - 4)
                - i64::from(shift),
        }
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        if self.is_zero() {
            return;
        }
        out.varint(self.base as u64);
        for digit in &self.digits {
            out.raw(&digit.to_le_bytes());
        }
    }

    /// Reads the base and the digits, little-endian, of what [`encode`](Self::encode) wrote of a number with so many.
    pub(super) fn read<'a>(
        negative: bool,
        len: u64,
        from: &mut Reader<'a>,
    ) -> Result<(u32, &'a [[u8; DIGIT]]), DecodeError> {
        if len == 0 {
            return if negative { Err(from.malformed("an exact sum")) } else { Ok((0, &[])) };
        }
        let base = from.varint()?;
        if base.checked_add(len).is_none_or(|end| end > LIMBS as u64) {
            return Err(from.malformed("an exact sum"));
        }
        let digits = from.raw(len as usize * DIGIT)?.as_chunks().0;
        if digits.first() == Some(&[0; DIGIT]) || digits.last() == Some(&[0; DIGIT]) {
            return Err(from.malformed("an exact sum"));
        }
        Ok((base as u32, digits))
    }
}

/// `numerator / denominator * 2^exponent` as the nearest double, rounded once, ties to even; beyond the largest, an
/// infinity. A zero denominator gives NaN.
#[must_use]
pub fn ratio_to_f64(numerator: &BigInt, denominator: &BigUint, exponent: i64) -> f64 {
    if denominator.bits() == 0 {
        return f64::NAN;
    }
    let dividend = numerator.magnitude();
    // Scaled to a quotient of 65 or 66 bits, more than a double keeps, and the remainder shows whether any lower bit is
    // set.
    let shift = 66 + denominator.bits() as i64 - dividend.bits() as i64;
    let (up, down) = (shift.max(0) as u64, (-shift).max(0) as u64);
    let (dividend, divisor) = (dividend << up, denominator << down);
    let quotient = &dividend / &divisor;
    let inexact = &quotient * &divisor != dividend;
    let leading =
        Leading { bits: quotient.to_u128().unwrap_or(u128::MAX), inexact, exponent: exponent - shift };
    signed(numerator.sign() == Sign::Minus, leading.round())
}

/// An integer over a positive integer as the nearest double, rounded once. Division by zero gives NaN.
pub(crate) fn int_ratio(numerator: i128, denominator: u64) -> f64 {
    let magnitude = numerator.unsigned_abs();
    let shift = magnitude.leading_zeros() % u128::BITS;
    let leading = Leading { bits: magnitude << shift, inexact: false, exponent: -i64::from(shift) };
    signed(numerator < 0, leading.divided_by(denominator))
}

/// `count * squares - sum²`: what a variance is divided from.
///
/// Digit by digit on the stack: a product of digits leaves an `i128` room for all the others, so that the carries
/// wait for the end.
pub(crate) fn spread(count: u64, sum: &Number, squares: &Number) -> Number {
    // Digits at the places i and j multiply to one at i + j, less one bias of the two.
    let doubled = 2 * sum.base - (BIAS / LIMB_BITS) as i32;
    let base = if sum.is_zero() { squares.base } else { doubled.min(squares.base) };
    let end = (doubled + 2 * sum.digits.len() as i32).max(squares.base + squares.digits.len() as i32);
    let mut limbs: SmallVec<[i128; 16]> = smallvec![0; (end - base) as usize];
    for (limb, digit) in limbs[(squares.base - base) as usize..].iter_mut().zip(&squares.digits) {
        *limb = i128::from(count) * i128::from(*digit);
    }
    for (start, left) in ((doubled - base) as usize..).zip(&sum.digits) {
        for (limb, right) in limbs[start..].iter_mut().zip(&sum.digits) {
            *limb -= i128::from(u64::from(*left) * u64::from(*right));
        }
    }
    Number::carried(base, limbs.into_iter())
}

/// The leading bits of a magnitude: `bits * 2^exponent`, and a little more where inexact.
///
/// An inexact one has at least 64 significant bits, more than a double and its round bit.
struct Leading {
    bits: u128,
    /// Whether there is more: above zero and below one unit of the lowest bit.
    inexact: bool,
    exponent: i64,
}

impl Leading {
    /// Rounds the quotient. The bits are left-aligned, so that a quotient by 64 bits keeps 64.
    fn divided_by(self, divisor: u64) -> f64 {
        let divisor = u128::from(divisor);
        let Some(bits) = self.bits.checked_div(divisor) else {
            return f64::NAN;
        };
        let inexact = self.inexact || bits * divisor != self.bits;
        Self { bits, inexact, exponent: self.exponent }.round()
    }

    /// The nearest double, ties to even.
    fn round(&self) -> f64 {
        let width = i64::from(u128::BITS - self.bits.leading_zeros());
        let top = self.exponent + width - 1;
        if self.bits == 0 || top < -1075 {
            return 0.0;
        }
        if top > 1023 {
            return f64::INFINITY;
        }
        // The weight of a double's lowest bit; subnormals share one.
        let unit = (top - 52).max(-1074);
        let mantissa = self.round_to(unit);
        // The mantissa's hidden bit, and its overflow to 2^53, both carry into the exponent as they should.
        f64::from_bits((((unit + 1074) as u64) << 52) + mantissa)
    }

    /// The number of units of `2^unit`, rounded to nearest, ties to even.
    fn round_to(&self, unit: i64) -> u64 {
        let drop = unit - self.exponent;
        if drop <= 0 {
            return (self.bits << -drop) as u64;
        }
        let kept = self.bits.checked_shr(drop as u32).unwrap_or(0);
        let half = 1 << (drop - 1);
        let rest = self.bits & (half | (half - 1));
        let up = rest > half || rest == half && (self.inexact || kept % 2 == 1);
        (kept + u128::from(up)) as u64
    }
}

/// Zero is always +0.
fn signed(negative: bool, magnitude: f64) -> f64 {
    if negative { 0.0 - magnitude } else { magnitude }
}

/// The two's complement of a negative number's digits: its magnitude.
fn negate(digits: &mut SmallVec<[u32; 12]>) {
    let mut carry = true;
    for digit in digits.iter_mut() {
        (*digit, carry) = (!*digit).overflowing_add(u32::from(carry));
    }
    if carry {
        digits.push(1);
    }
}
