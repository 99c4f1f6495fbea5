//! What the operating system says about this process.

use trellis_protocol::control::observe::ProcessStats;

/// Reads Linux's `/proc/self`; zeroes where there is none.
pub(super) fn read() -> ProcessStats {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let open_files = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    ProcessStats {
        // The directory that counts them is one of them.
        open_files: (open_files as u64).saturating_sub(1),
        ..parse(
            &stat,
            rustix::param::page_size() as u64,
            rustix::param::clock_ticks_per_second(),
        )
    }
}

/// The fields of `/proc/<pid>/stat` (proc(5)). The second one, the program's name, may hold spaces and brackets, so fields
/// are counted from its end.
fn parse(stat: &str, page_bytes: u64, ticks_per_second: u64) -> ProcessStats {
    let fields: Vec<u64> = stat.rsplit_once(')').map_or(Vec::new(), |(_, rest)| {
        let numbers = rest.split_ascii_whitespace().skip(1);
        numbers.map(|field| field.parse().unwrap_or(0)).collect()
    });
    // `fields` begins with the fourth field of the manual's list.
    let field = |number: usize| fields.get(number - 4).copied().unwrap_or(0);
    let ticks = field(14).saturating_add(field(15));
    ProcessStats {
        memory_bytes: field(24).saturating_mul(page_bytes),
        cpu_seconds: ticks as f64 / ticks_per_second.max(1) as f64,
        open_files: 0,
        threads: field(20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_whose_name_looks_like_fields_is_read_all_the_same() {
        let stat = "7 (a) b 9) S 1 2 3 4 -1 6 7 8 9 10 150 50 13 14 15 16 5 18 19 20 1000 22";
        let read = parse(stat, 4096, 100);
        assert_eq!(read.memory_bytes, 1000 * 4096);
        assert!((read.cpu_seconds - 2.0).abs() < 1e-9);
        assert_eq!(read.threads, 5);
        assert_eq!(parse("", 4096, 100), ProcessStats::default());
    }

    #[test]
    fn this_process_has_memory_threads_and_files() {
        let read = read();
        assert!(read.memory_bytes > 0 && read.threads > 0 && read.open_files > 0);
    }
}
