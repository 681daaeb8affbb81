//! Loop dialect to machine code: JIT and shared objects.
