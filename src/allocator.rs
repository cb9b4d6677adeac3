//! Where the module's memory comes from: the system, and a reserve for when that has none.
//!
//! A Rust program without memory is aborted. A worker of nginx must not be: nginx itself fails the request
//! and goes on. From the pools of nginx we do likewise; what comes from here is small and soon given back,
//! and a reserve carries the callbacks under way over the shortage. A worker that has used up the reserve
//! as well ends, and the master starts another.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

#[global_allocator]
static ALLOCATOR: Allocator<System> = Allocator { system: System, reserve: Reserve::new() };

/// Bytes of the reserve. It takes no memory before it is used.
const SIZE: usize = 256 * 1024;

struct Allocator<A> {
    system: A,
    reserve: Reserve,
}

// SAFETY: each piece is the system's or the reserve's, which tell theirs by its address, and both keep to
// the contract.
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
            self.reserve.put_back();
        } else {
            // SAFETY: by contract; it is the system's.
            unsafe { self.system.dealloc(piece, layout) }
        }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !self.reserve.has(piece) {
            // SAFETY: by contract; it is the system's.
            let grown = unsafe { self.system.realloc(piece, layout, size) };
            if !grown.is_null() {
                return grown;
            }
        }
        // SAFETY: by contract, the size is good for a layout of this alignment. Both pieces are valid for
        // what is copied, and are not the same.
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

#[repr(C, align(16))]
struct Reserve {
    bytes: UnsafeCell<[u8; SIZE]>,
    /// How many pieces are out, in the upper half; and where the next begins, in the lower.
    state: AtomicU64,
}

// SAFETY: of `bytes`, each place is given to one taker at a time.
unsafe impl Sync for Reserve {}

impl Reserve {
    const fn new() -> Self {
        Self { bytes: UnsafeCell::new([0; SIZE]), state: AtomicU64::new(0) }
    }

    /// A piece after those that are out; NULL if there is no place for it.
    fn take(&self, layout: Layout) -> *mut u8 {
        let start = self.bytes.get().cast::<u8>();
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            let (out, next) = (state >> 32, (state & 0xffff_ffff) as usize);
            let address = start as usize + next;
            let offset = next + (address.next_multiple_of(layout.align()) - address);
            let Some(end) = offset.checked_add(layout.size()).filter(|end| *end <= SIZE) else {
                return ptr::null_mut();
            };
            let taken = (out + 1) << 32 | end as u64;
            match self.state.compare_exchange_weak(
                state,
                taken,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                // SAFETY: the offset is within.
                Ok(_) => return unsafe { start.add(offset) },
                Err(other) => state = other,
            }
        }
    }

    /// Notes that a piece is not used any more. After the last of them, all is free again.
    fn put_back(&self) {
        let left = |state: u64| Some(if state >> 32 == 1 { 0 } else { state - (1 << 32) });
        let _ = self.state.fetch_update(Ordering::Release, Ordering::Relaxed, left);
    }

    fn has(&self, piece: *mut u8) -> bool {
        let start = self.bytes.get() as usize;
        (start..start + SIZE).contains(&(piece as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A system that has no memory, but for one piece.
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

    #[test]
    fn gives_pieces_of_the_reserve_and_takes_them_back() {
        let allocator = allocator();
        // SAFETY: the layouts are those that the pieces were made with.
        unsafe {
            let one = allocator.alloc(layout(3, 1));
            let two = allocator.alloc(layout(100, 64));
            assert!(!one.is_null() && !two.is_null());
            assert_eq!(two as usize % 64, 0);
            one.write_bytes(1, 3);
            two.write_bytes(2, 100);
            assert_eq!(one.read(), 1);

            let grown = allocator.realloc(two, layout(100, 64), 1000);
            assert_eq!(grown as usize % 64, 0);
            assert_eq!((grown.read(), grown.add(99).read()), (2, 2));

            assert!(allocator.alloc(layout(SIZE, 1)).is_null());
            allocator.dealloc(one, layout(3, 1));
            assert!(allocator.alloc(layout(SIZE, 1)).is_null());
            allocator.dealloc(grown, layout(1000, 64));

            let all = allocator.alloc_zeroed(layout(SIZE, 1));
            assert!(!all.is_null());
            assert_eq!((all.read(), all.add(SIZE - 1).read()), (0, 0));
        }
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let allocator = allocator();
        // SAFETY: as above.
        unsafe {
            assert!(allocator.alloc(layout(SIZE + 1, 1)).is_null());
            let one = allocator.alloc(layout(SIZE / 2 + 1, 1));
            assert!(!one.is_null());
            assert!(allocator.realloc(one, layout(SIZE / 2 + 1, 1), SIZE / 2 + 2).is_null());
            allocator.dealloc(one, layout(SIZE / 2 + 1, 1));
            assert!(!allocator.alloc(layout(SIZE, 1)).is_null());
        }
    }
}
