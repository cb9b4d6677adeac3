// SPDX-License-Identifier: Apache-2.0

//! Where the module's memory comes from: the system, and a reserve for when that has none.

#![allow(unsafe_code, reason = "an allocator is unsafe")]
//!
//! A Rust program without memory is aborted. A worker of nginx must not be: nginx itself fails the
//! request and goes on. From the pools of nginx we do likewise; what comes from here is small and
//! soon given back, and a reserve carries the callbacks under way over the shortage. A worker that
//! has used up the reserve as well ends, and the master starts another.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

#[global_allocator]
static ALLOCATOR: Allocator<System> = Allocator { system: System, reserve: Reserve::new() };

/// The reserve is given in blocks of so many bytes.
const BLOCK: usize = 64;
/// How many there are: 256 KB, which take no memory before they are used.
const BLOCKS: usize = 4096;

struct Allocator<A> {
    system: A,
    reserve: Reserve,
}

// SAFETY: each piece is the system's or the reserve's, which tell theirs by its address, and both
// keep to the contract.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Allocator<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by contract.
        let piece = unsafe { self.system.alloc(layout) };
        if piece.is_null() { self.reserve.take(layout) } else { piece }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by contract.
        let piece = unsafe { self.system.alloc_zeroed(layout) };
        if !piece.is_null() {
            return piece;
        }
        let piece = self.reserve.take(layout);
        if !piece.is_null() {
            // SAFETY: it has the size of the layout. It may have been used before.
            unsafe { piece.write_bytes(0, layout.size()) };
        }
        piece
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        if self.reserve.has(piece) {
            self.reserve.put_back(piece, layout);
        } else {
            // SAFETY: by contract; it is the system's.
            unsafe { self.system.dealloc(piece, layout) }
        }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if self.reserve.has(piece) {
            if self.reserve.resize(piece, layout, size) {
                return piece;
            }
        } else {
            // SAFETY: by contract; it is the system's.
            let grown = unsafe { self.system.realloc(piece, layout, size) };
            if !grown.is_null() {
                return grown;
            }
        }
        // SAFETY: the caller's size is good for a layout of this alignment. Both pieces are
        // valid for what is copied, and are not the same.
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
    /// Which of them are out.
    taken: [AtomicBool; BLOCKS],
    /// Whether somebody looks for free ones. nginx has one thread for us; this makes it true.
    busy: AtomicBool,
}

// SAFETY: of `blocks`, each is given to one taker at a time.
unsafe impl Sync for Reserve {}

impl Reserve {
    const fn new() -> Self {
        Self {
            blocks: UnsafeCell::new([[0; BLOCK]; BLOCKS]),
            taken: [const { AtomicBool::new(false) }; BLOCKS],
            busy: AtomicBool::new(false),
        }
    }

    /// NULL if there is no place for it.
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
            // SAFETY: the block is within.
            Some(first) => unsafe { self.start().add(first * BLOCK) },
            None => ptr::null_mut(),
        }
    }

    fn put_back(&self, piece: *mut u8, layout: Layout) {
        self.put_back_from(piece, 0, layout);
    }

    /// Whether a piece can have this size where it is. What it has beyond that is given back.
    fn resize(&self, piece: *mut u8, layout: Layout, size: usize) -> bool {
        let fits = size <= layout.size().next_multiple_of(BLOCK);
        if fits {
            self.put_back_from(piece, size.div_ceil(BLOCK), layout);
        }
        fits
    }

    /// Gives back the blocks of a piece but for the first `kept` ones.
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

    /// A system that has no memory.
    struct Nothing;

    // SAFETY: NULL is always right.
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
        // SAFETY: the layouts are those that the pieces were made with.
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

            // Between those that are out.
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
        // SAFETY: as above.
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
        // SAFETY: as above.
        unsafe {
            let all = allocator.alloc(layout(ALL - 1, 1));
            assert_eq!(allocator.realloc(all, layout(ALL - 1, 1), ALL), all);
            assert!(allocator.alloc(layout(1, 1)).is_null());
            // What it no longer needs is there for others.
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
