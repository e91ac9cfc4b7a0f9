//! dm-multipath: the section of multipath.conf for our disks, and what open-iscsi has to be told for it.

use huntaway_gateway::PRODUCT;

use super::{Recipe, SHORTEST_PATH_TIMEOUT_S};

/// Who makes our disks, as INQUIRY says.
const VENDOR: &str = "HUNTAWAY";

/// How often multipathd looks again for a path when none is left, every 5 seconds, before commands fail.
const NO_PATH_RETRIES: u16 = 24;

/// A file for `/etc/multipath/conf.d`.
pub(crate) fn multipath(recipe: &Recipe) -> String {
    let Recipe { target, .. } = recipe;
    format!(
        "# /etc/multipath/conf.d/huntaway.conf (then: multipathd reconfigure)\n\
         #\n\
         # All paths are equal and used at once. A path must not be given up earlier than {SHORTEST_PATH_TIMEOUT_S} seconds \
         after it failed: until\n\
         # then what was sent on it may still be written. For paths that exist already:\n\
         #   iscsiadm -m node -T {target} -o update \
         -n node.session.timeo.replacement_timeout -v {SHORTEST_PATH_TIMEOUT_S}\n\
         # and for those to come, in /etc/iscsi/iscsid.conf:\n\
         #   node.session.timeo.replacement_timeout = {SHORTEST_PATH_TIMEOUT_S}\n\
         devices {{\n    \
         device {{\n        \
         vendor \"{VENDOR}\"\n        \
         product \"{PRODUCT}\"\n        \
         path_grouping_policy multibus\n        \
         path_selector \"service-time 0\"\n        \
         path_checker tur\n        \
         prio const\n        \
         fast_io_fail_tmo {SHORTEST_PATH_TIMEOUT_S}\n        \
         no_path_retry {NO_PATH_RETRIES}\n    \
         }}\n\
         }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::recipe;
    use super::*;

    #[test]
    fn paths_are_one_group_and_never_given_up_early() {
        let text = multipath(&recipe());
        assert!(text.contains("\n        path_grouping_policy multibus\n"), "{text}");
        assert!(text.contains("\n        fast_io_fail_tmo 5\n"), "{text}");
        assert!(text.contains("vendor \"HUNTAWAY\"\n        product \"VIRTUAL-DISK\"\n"), "{text}");
    }
}
