"""BPF programs: which there are, how they are compiled and attached, what they have counted."""
