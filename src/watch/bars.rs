//! How far something is, in a few cells.

/// What has ended so far, of a total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    pub well: i64,
    pub badly: i64,
    /// Nobody wants it any more.
    pub given_up: i64,
}

/// A bar of so many cells. What is there at all has at least one of them, and the bar is full only when nothing is left.
pub fn bar(cells: usize, total: i64, ended: Ended, ascii: bool) -> String {
    let [done, left] = if ascii { ['#', '.'] } else { ['█', '░'] };
    let rest = (total - ended.well - ended.badly - ended.given_up).max(0);
    let parts = [
        (done, ended.well),
        ('x', ended.badly),
        ('-', ended.given_up),
        (left, rest),
    ];
    let share = |many: i64| -> usize {
        if total <= 0 || many <= 0 {
            return 0;
        }
        let share = i128::from(many) * cells as i128 / i128::from(total);
        usize::try_from(share).unwrap_or(cells).max(1)
    };
    let mut widths = parts.map(|(_, many)| share(many));
    // What rounding took or gave is settled with the widest.
    while widths.iter().sum::<usize>() != cells {
        let whole: usize = widths.iter().sum();
        let Some(widest) = widths.iter_mut().rev().max() else {
            break;
        };
        if whole == 0 {
            break;
        }
        if whole < cells {
            *widest += cells - whole;
        } else if *widest > 0 {
            *widest -= 1;
        }
    }
    let mut bar = String::new();
    for ((mark, _), width) in parts.into_iter().zip(widths) {
        bar.extend(std::iter::repeat_n(mark, width));
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::{Ended, bar};

    #[test]
    fn a_bar_shows_every_part_and_is_full_only_at_the_end() {
        let of = |total, well, badly, given_up| {
            let ended = Ended {
                well,
                badly,
                given_up,
            };
            bar(10, total, ended, true)
        };
        assert_eq!(of(10, 3, 2, 0), "###xx.....");
        assert_eq!(of(1_000_000, 999_999, 0, 0), "#########.");
        assert_eq!(of(1_000_000, 1, 1, 1), "#x-.......");
        assert_eq!(of(3, 1, 1, 1), "####xxx---");
        assert_eq!(of(4, 4, 0, 0), "##########");
        assert_eq!(of(4, 0, 0, 4), "----------");
        assert_eq!(of(4, 0, 0, 0), "..........");
        assert_eq!(of(0, 0, 0, 0), "");
    }
}
