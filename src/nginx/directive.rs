//! Directives of other modules, before which functions of ours stand while a configuration is read.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use ngx::ffi::{ngx_command_t, ngx_conf_t};

use crate::nginx::configuration::{Module, bytes};

/// What nginx calls when it reads a directive.
pub type SetDirective =
    unsafe extern "C" fn(*mut ngx_conf_t, *mut ngx_command_t, *mut c_void) -> *mut c_char;

/// A directive of another module.
pub struct ForeignDirective {
    pub module: &'static CStr,
    pub name: &'static str,
    /// What nginx would call.
    original: AtomicPtr<c_void>,
}

impl ForeignDirective {
    pub const fn new(module: &'static CStr, name: &'static str) -> Self {
        Self { module, name, original: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Puts `ours` before the directive, if this nginx has it.
    ///
    /// # Safety
    /// `cf` must be valid, and `ours` answer for this directive with [`ForeignDirective::read`].
    pub unsafe fn wrap(&self, cf: *mut ngx_conf_t, ours: SetDirective) {
        // SAFETY: `cf` is valid. The directives of a module are in memory that can be written, and
        // nginx reads them in this process alone.
        unsafe {
            let module = Module::find(cf, self.module);
            let Some(command) = module.and_then(|module| module.directive(self.name.as_bytes()))
            else {
                return;
            };
            let command = &mut *command.as_ptr();
            // A configuration that failed before it was complete has left ours in place.
            if let Some(set) = command.set.filter(|set| !ptr::fn_addr_eq(*set, ours)) {
                self.original.store(set as *mut c_void, Ordering::Relaxed);
                command.set = Some(ours);
            }
        }
    }

    /// Leaves the directive as it was.
    ///
    /// # Safety
    /// `cf` must be valid.
    pub unsafe fn restore(&self, cf: *mut ngx_conf_t) {
        // SAFETY: as above.
        unsafe {
            let module = Module::find(cf, self.module);
            let command = module.and_then(|module| module.directive(self.name.as_bytes()));
            if let (Some(command), Some(set)) = (command, self.original()) {
                (*command.as_ptr()).set = Some(set);
            }
        }
    }

    /// Whether `command` is this directive.
    ///
    /// # Safety
    /// `command` must be valid.
    pub unsafe fn is(&self, command: *mut ngx_command_t) -> bool {
        // SAFETY: by contract.
        unsafe { bytes((*command).name) == self.name.as_bytes() }
    }

    /// Has nginx read the directive. `None` if nobody stands before it.
    ///
    /// # Safety
    /// The arguments must be those that nginx has called with.
    pub unsafe fn read(
        &self,
        cf: *mut ngx_conf_t,
        command: *mut ngx_command_t,
        conf: *mut c_void,
    ) -> Option<*mut c_char> {
        // SAFETY: by contract.
        self.original().map(|original| unsafe { original(cf, command, conf) })
    }

    fn original(&self) -> Option<SetDirective> {
        let set = self.original.load(Ordering::Relaxed);
        // SAFETY: only `wrap` stores there, a function of this type.
        (!set.is_null()).then(|| unsafe { std::mem::transmute::<*mut c_void, SetDirective>(set) })
    }
}
