// SPDX-License-Identifier: Apache-2.0

//! The module's allocator: the system's, with a reserve for when that has no memory.
//!
//! By default, a Rust program that runs out of memory aborts. A worker of nginx must not: nginx
//! itself fails the request and continues. Allocations from nginx's pools are handled likewise.
//! What comes from this allocator is small and soon freed, and the reserve lets the callbacks in
//! progress finish. A worker that exhausts the reserve too aborts, and the master process starts
//! another one.

#![allow(unsafe_code, reason = "an allocator is unsafe")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

#[global_allocator]
static ALLOCATOR: Allocator<System> = Allocator { system: System, reserve: Reserve::new() };

/// The size of the blocks of the reserve in bytes.
const BLOCK: usize = 64;
/// The number of blocks: 256 KB, which take no physical memory before they are used.
const BLOCKS: usize = 4096;

struct Allocator<A> {
    system: A,
    reserve: Reserve,
}

// SAFETY: each allocation belongs to either the system or the reserve, distinguished by its
// address, and both fulfil the requirements of `GlobalAlloc`.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Allocator<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the layout is passed on unchanged: the caller of `alloc` ensures that its size is
        // not zero.
        let piece = unsafe { self.system.alloc(layout) };
        if piece.is_null() { self.reserve.take(layout) } else { piece }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the layout is passed on unchanged: the caller of `alloc_zeroed` ensures that its
        // size is not zero.
        let piece = unsafe { self.system.alloc_zeroed(layout) };
        if !piece.is_null() {
            return piece;
        }
        let piece = self.reserve.take(layout);
        if !piece.is_null() {
            // SAFETY: `take` has returned at least `layout.size()` bytes. They may have been used
            // before.
            unsafe { piece.write_bytes(0, layout.size()) };
        }
        piece
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        if self.reserve.has(piece) {
            self.reserve.put_back(piece, layout);
        } else {
            // SAFETY: `piece` is not in the reserve, so the system allocated it, with this layout.
            unsafe { self.system.dealloc(piece, layout) }
        }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if self.reserve.has(piece) {
            if self.reserve.resize(piece, layout, size) {
                return piece;
            }
        } else {
            // SAFETY: `piece` is not in the reserve, so the system allocated it, with this layout.
            let grown = unsafe { self.system.realloc(piece, layout, size) };
            if !grown.is_null() {
                return grown;
            }
        }
        // SAFETY: the caller of `realloc` ensures that `size` is valid for a layout of this
        // alignment. Both allocations are valid for the bytes copied, and they don't overlap.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                ptr::copy_nonoverlapping(piece, moved, layout.size().min(size));
                self.dealloc(piece, layout);
            }
            moved
        }
    }
}

#[repr(C, align(64))]
struct Reserve {
    blocks: UnsafeCell<[[u8; BLOCK]; BLOCKS]>,
    /// Which blocks are allocated.
    taken: [AtomicBool; BLOCKS],
    /// A spin lock for `take`. nginx runs the module in one thread; the lock makes this sound
    /// anyway.
    busy: AtomicBool,
}

// SAFETY: each of the `blocks` is given to one owner at a time: `busy` guards the search in `take`.
unsafe impl Sync for Reserve {}

impl Reserve {
    const fn new() -> Self {
        Self {
            blocks: UnsafeCell::new([[0; BLOCK]; BLOCKS]),
            taken: [const { AtomicBool::new(false) }; BLOCKS],
            busy: AtomicBool::new(false),
        }
    }

    /// Allocates from the reserve. Returns NULL if no run of free blocks is large enough.
    fn take(&self, layout: Layout) -> *mut u8 {
        let wanted = layout.size().div_ceil(BLOCK);
        if layout.align() > BLOCK || wanted > BLOCKS {
            return ptr::null_mut();
        }
        while self.busy.swap(true, Ordering::Acquire) {
            std::hint::spin_loop();
        }
        let mut first = 0;
        let mut found = None;
        for (index, taken) in self.taken.iter().enumerate() {
            if taken.load(Ordering::Acquire) {
                first = index + 1;
            } else if index + 1 - first == wanted {
                found = Some(first);
                break;
            }
        }
        let blocks = found.and_then(|first| self.taken.get(first..first + wanted));
        for taken in blocks.unwrap_or_default() {
            taken.store(true, Ordering::Relaxed);
        }
        self.busy.store(false, Ordering::Release);
        match found {
            // SAFETY: block number `first` is within the reserve.
            Some(first) => unsafe { self.start().add(first * BLOCK) },
            None => ptr::null_mut(),
        }
    }

    fn put_back(&self, piece: *mut u8, layout: Layout) {
        self.put_back_from(piece, 0, layout);
    }

    /// Resizes an allocation in place, if the new size fits in its blocks. Frees the blocks beyond
    /// that size. Returns whether it fits.
    fn resize(&self, piece: *mut u8, layout: Layout, size: usize) -> bool {
        let fits = size <= layout.size().next_multiple_of(BLOCK);
        if fits {
            self.put_back_from(piece, size.div_ceil(BLOCK), layout);
        }
        fits
    }

    /// Frees the blocks of an allocation except for the first `kept` ones.
    fn put_back_from(&self, piece: *mut u8, kept: usize, layout: Layout) {
        let first = (piece as usize - self.start() as usize) / BLOCK;
        let blocks = self.taken.get(first + kept..first + layout.size().div_ceil(BLOCK));
        for taken in blocks.unwrap_or_default() {
            taken.store(false, Ordering::Release);
        }
    }

    fn has(&self, piece: *mut u8) -> bool {
        let start = self.start() as usize;
        (start..start + BLOCKS * BLOCK).contains(&(piece as usize))
    }

    fn start(&self) -> *mut u8 {
        self.blocks.get().cast()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A system allocator that has no memory.
    struct Nothing;

    // SAFETY: an allocator may always return NULL.
    unsafe impl GlobalAlloc for Nothing {
        unsafe fn alloc(&self, _: Layout) -> *mut u8 {
            ptr::null_mut()
        }
        unsafe fn dealloc(&self, _: *mut u8, _: Layout) {
            unreachable!("nothing is the system's");
        }
    }

    fn allocator() -> Box<Allocator<Nothing>> {
        Box::new(Allocator { system: Nothing, reserve: Reserve::new() })
    }

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    const ALL: usize = BLOCK * BLOCKS;

    #[test]
    fn gives_pieces_of_the_reserve_and_takes_them_back() {
        let allocator = allocator();
        // SAFETY: no size is zero, and each allocation is freed and resized with its current
        // layout.
        unsafe {
            let one = allocator.alloc(layout(3, 1));
            let two = allocator.alloc(layout(100, 64));
            let three = allocator.alloc(layout(65, 8));
            assert!(!one.is_null() && !two.is_null() && !three.is_null());
            assert_eq!(two as usize % 64, 0);
            one.write_bytes(1, 3);
            two.write_bytes(2, 100);
            three.write_bytes(3, 65);
            assert_eq!((one.read(), two.read(), three.read()), (1, 2, 3));

            let grown = allocator.realloc(two, layout(100, 64), 1000);
            assert_eq!(grown as usize % 64, 0);
            assert_eq!((grown.read(), grown.add(99).read(), three.add(64).read()), (2, 2, 3));

            // A gap between the other allocations.
            assert_eq!(allocator.alloc(layout(128, 1)), two);
            allocator.dealloc(two, layout(128, 1));
            assert!(allocator.alloc(layout(ALL, 1)).is_null());
            for (piece, size) in [(one, 3), (three, 65), (grown, 1000)] {
                allocator.dealloc(piece, layout(size, 1));
            }
            let all = allocator.alloc_zeroed(layout(ALL, 1));
            assert!(!all.is_null());
            assert_eq!((all.read(), all.add(ALL - 1).read()), (0, 0));
            assert!(allocator.alloc(layout(1, 1)).is_null());
            allocator.dealloc(all, layout(ALL, 1));
            assert!(!allocator.alloc(layout(1, 1)).is_null());
        }
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let allocator = allocator();
        // SAFETY: no size is zero, and each allocation is freed and resized with its current
        // layout.
        unsafe {
            assert!(allocator.alloc(layout(ALL + 1, 1)).is_null());
            assert!(allocator.alloc(layout(1, 128)).is_null());
            let one = allocator.alloc(layout(ALL / 2 + 1, 1));
            assert!(!one.is_null());
            assert!(allocator.realloc(one, layout(ALL / 2 + 1, 1), ALL / 2 + BLOCK + 1).is_null());
            allocator.dealloc(one, layout(ALL / 2 + 1, 1));
            assert!(!allocator.alloc(layout(ALL, 1)).is_null());
        }
    }

    #[test]
    fn a_piece_stays_where_it_is_if_it_fits() {
        let allocator = allocator();
        // SAFETY: no size is zero, and each allocation is freed and resized with its current
        // layout.
        unsafe {
            let all = allocator.alloc(layout(ALL - 1, 1));
            assert_eq!(allocator.realloc(all, layout(ALL - 1, 1), ALL), all);
            assert!(allocator.alloc(layout(1, 1)).is_null());
            // The blocks that are no longer needed can be allocated again.
            assert_eq!(allocator.realloc(all, layout(ALL, 1), BLOCK + 1), all);
            let rest = allocator.alloc(layout(ALL - 2 * BLOCK, 1));
            assert_eq!(rest, all.add(2 * BLOCK));
            assert!(allocator.alloc(layout(1, 1)).is_null());
            allocator.dealloc(all, layout(BLOCK + 1, 1));
            allocator.dealloc(rest, layout(ALL - 2 * BLOCK, 1));
            assert!(!allocator.alloc(layout(ALL, 1)).is_null());
        }
    }
}
