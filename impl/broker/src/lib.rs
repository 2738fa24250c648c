//! The broker's shell: sockets, disk, clock, threads.
