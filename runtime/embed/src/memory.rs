//! Memory of a context: from the host's hooks when there are any, else from the C library.

use crate::sys;
use core::ffi::c_void;

type AllocFn = unsafe extern "C" fn(*mut c_void, usize, usize) -> *mut c_void;
type FreeFn = unsafe extern "C" fn(*mut c_void, *mut c_void, usize);

/// Where memory comes from.
#[derive(Debug, Clone, Copy)]
pub struct Allocator {
    hooks: Option<(AllocFn, FreeFn)>,
    user: *mut c_void,
}

impl Allocator {
    /// The C library.
    pub const fn system() -> Self {
        Allocator { hooks: None, user: core::ptr::null_mut() }
    }

    /// The host's functions.
    ///
    /// # Safety
    /// `alloc(user, bytes, align)` returns null or `bytes` bytes that are aligned, writable and nobody else's until
    /// `free(user, block, bytes)`; both may be called from any thread that uses the context.
    pub const unsafe fn hooks(alloc: AllocFn, free: FreeFn, user: *mut c_void) -> Self {
        Allocator { hooks: Some((alloc, free)), user }
    }

    /// `bytes` zero bytes at a multiple of `align` (a power of two, at least 8); none when out of memory.
    pub fn zeroed(&self, bytes: usize, align: usize) -> Option<Block> {
        let bytes = bytes.max(1);
        if bytes > isize::MAX as usize - align {
            return None;
        }
        let base = match self.hooks {
            // SAFETY: promised by whoever gave the hooks.
            Some((alloc, _)) => unsafe { alloc(self.user, bytes, align) },
            None => sys::allocate(bytes, align),
        };
        if base.is_null() {
            return None;
        }
        let block = Block { base: base.cast(), bytes };
        if !(base as usize).is_multiple_of(align) {
            // SAFETY: the block was just made and has no other user.
            unsafe { self.free(block) };
            return None;
        }
        // SAFETY: the block is ours and `bytes` long.
        unsafe { block.base.write_bytes(0, bytes) };
        Some(block)
    }

    /// Gives a block back; an empty block is ignored.
    ///
    /// # Safety
    /// `block` came from this allocator and is not used again.
    pub unsafe fn free(&self, block: Block) {
        if block.base.is_null() {
            return;
        }
        match self.hooks {
            // SAFETY: the block came from the matching `alloc`.
            Some((_, free)) => unsafe { free(self.user, block.base.cast(), block.bytes) },
            // SAFETY: the block came from `sys::allocate`.
            None => unsafe { sys::deallocate(block.base.cast()) },
        }
    }
}

/// A piece of memory; whoever holds it frees it.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    /// First byte; null for no memory.
    pub base: *mut u8,
    /// Length.
    pub bytes: usize,
}

impl Block {
    /// No memory.
    pub const EMPTY: Block = Block { base: core::ptr::null_mut(), bytes: 0 };
}
