//! Sentences in fixed buffers, without the formatting machinery of `core`, which would outweigh the executor.

use core::ffi::{CStr, c_char};

/// A sentence being written into a buffer; what does not fit is cut, and the buffer always ends in NUL.
#[derive(Debug)]
pub struct Text<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl<'a> Text<'a> {
    /// Starts an empty sentence.
    pub fn new(buffer: &'a mut [u8]) -> Self {
        if let Some(first) = buffer.first_mut() {
            *first = 0;
        }
        Text { buffer, len: 0 }
    }

    /// Appends bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        for &byte in bytes {
            if self.len + 1 >= self.buffer.len() {
                break;
            }
            self.buffer[self.len] = byte;
            self.len += 1;
        }
        if let Some(end) = self.buffer.get_mut(self.len) {
            *end = 0;
        }
        self
    }

    /// Appends a string.
    pub fn str(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Appends a number in decimal.
    pub fn number(&mut self, mut number: u64) -> &mut Self {
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.bytes(&digits[at..])
    }
}

/// The bytes of a C string; empty when the pointer is null.
///
/// # Safety
/// A non-null `text` is NUL-terminated and lives as long as `'a`.
pub unsafe fn c_bytes<'a>(text: *const u8) -> &'a [u8] {
    if text.is_null() {
        return &[];
    }
    // SAFETY: promised by the caller.
    unsafe { CStr::from_ptr(text.cast::<c_char>()) }.to_bytes()
}

#[cfg(test)]
mod tests {
    use super::Text;

    #[test]
    fn cuts_and_terminates() {
        let mut buffer = [0xffu8; 8];
        Text::new(&mut buffer).str("ab").number(0).number(1234).str("xyz");
        assert_eq!(&buffer, b"ab01234\0");
        Text::new(&mut buffer[..0]).str("nowhere");
        Text::new(&mut buffer).number(u64::MAX);
        assert_eq!(&buffer, b"1844674\0");
    }
}
