//! A shared object of ours as the system's loader has it in memory.
//!
//! Its weights are checked there and not in the file: what was checked is then what runs, nothing is copied (400 MB take
//! 20 ms instead of 30), and the first run finds its pages mapped.

use crate::digest::Bytes;
use crate::note::{OWNER, SEAL_BYTES, Seal, TYPE_SEAL};
use object::LittleEndian as Le;
use object::elf::{FileHeader64, PF_R, PT_LOAD, PT_NOTE};
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;

/// The library that has a symbol, and the file it was loaded from.
pub struct Loaded<'f> {
    /// Its first page: headers and notes.
    head: &'f [u8],
    /// Its last segment, the weights.
    weights: &'f [u8],
    /// Where in the file the weights begin.
    weights_offset: u64,
    file: &'f File,
}

impl<'f> Loaded<'f> {
    /// Finds the library that has `symbol`; `None` if its headers are not those of a file of ours.
    ///
    /// # Safety
    /// The library was made by our linker, and stays loaded and unchanged while the result is used.
    pub unsafe fn with(symbol: *const c_void, file: &'f File) -> Option<Loaded<'f>> {
        let mut place = MaybeUninit::<libc::Dl_info>::zeroed();
        // SAFETY: `place` is writable; any bytes, zeros before the call, are one.
        let (known, place) = unsafe { (libc::dladdr(symbol, place.as_mut_ptr()), place.assume_init()) };
        if known == 0 || place.dli_fbase.is_null() {
            return None;
        }
        let base = place.dli_fbase.cast::<u8>().cast_const();
        // SAFETY: a loaded library begins with its headers and notes, which our linker puts into its first, page-aligned
        // segment before anything else; a page is always readable.
        let head = unsafe { std::slice::from_raw_parts(base, 4096) };
        let header = FileHeader64::<Le>::parse(head).ok()?;
        let mut loads = header.program_headers(Le, head).ok()?.iter().filter(|s| s.p_type(Le) == PT_LOAD);
        let last = loads.next_back().filter(|s| s.p_flags(Le) == PF_R)?;
        // SAFETY: the loader has mapped the segments of these headers relative to their first; this one is only read.
        let weights =
            unsafe { std::slice::from_raw_parts(base.add(last.p_vaddr(Le) as usize), last.p_filesz(Le) as usize) };
        Some(Loaded { head, weights, weights_offset: last.p_offset(Le), file })
    }

    /// Its seal, the first of its notes. The loader gives the library that it already has when a path is opened twice,
    /// even if the file has been replaced.
    pub fn seal(&self) -> Option<Seal> {
        let header = FileHeader64::<Le>::parse(self.head).ok()?;
        let segments = header.program_headers(Le, self.head).ok()?;
        let segment = segments.iter().find(|segment| segment.p_type(Le) == PT_NOTE)?;
        let note = self.head.get(segment.p_offset(Le) as usize..)?;
        let word = |at: usize| Some(u32::from_le_bytes(note.get(at..at + 4)?.try_into().ok()?));
        let is_seal = word(0)? == OWNER.len() as u32 + 1 && word(4)? == SEAL_BYTES as u32 && word(8)? == TYPE_SEAL;
        Seal::from_bytes(note.get(16..16 + SEAL_BYTES)?).filter(|_| is_seal)
    }
}

impl Bytes for Loaded<'_> {
    /// Weights as they are in memory; the rest, which is not loaded, from the file.
    fn read_at<'a>(&'a self, at: u64, wanted: u64, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let weights = at.checked_sub(self.weights_offset).and_then(|at| self.weights.get(at as usize..));
        match weights.filter(|weights| !weights.is_empty()) {
            Some(weights) => {
                let read = &weights[..weights.len().min(usize::try_from(wanted).unwrap_or(usize::MAX))];
                map_now(read);
                Ok(read)
            }
            None => self.file.read_at(at, wanted, buffer),
        }
    }
}

/// Maps all pages of `bytes` in one call, where the system can; else they come one by one when they are read.
fn map_now(bytes: &[u8]) {
    const PAGE: usize = 4096;
    let begin = bytes.as_ptr() as usize / PAGE * PAGE;
    let len = bytes.as_ptr() as usize + bytes.len() - begin;
    // SAFETY: reading pages that are mapped for reading changes nothing.
    unsafe { libc::madvise(begin as *mut c_void, len, libc::MADV_POPULATE_READ) };
}
