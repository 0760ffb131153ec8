#!/usr/bin/env bash
# Runs the io tests, without the stress tests, as an ordinary user. Such a user has no privilege,
# and its rings count against a limit of locked memory, here the 8 MiB that most systems set. Each
# case is a process of its own, and its user has no other process, because the limit is that of the
# user. Then all cases run once more in one process, one run after the other.
# Usage: ordinary_user.sh PROGRAM [JOBS [REGEX]]
#   PROGRAM  creel_tests_io of any build; it is copied to a folder that every user can read
#   REGEX    selects cases by name, as for ctest
# CREEL_JUNIT=FILE  writes the results to this file too
set -euo pipefail

program=$(realpath "$1")
jobs=${2:-1}
regex=${3:-}
tree=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")

say() { echo "== $*" >&2; }
if ((EUID)); then
    say "SKIPPED: the tests as an ordinary user, because only root can become one"
    exit 0
fi

# In /tmp, because other users may have no access to TMPDIR.
folder=$(mktemp -d /tmp/creel-user-XXXXXX)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
cp "$program" "$folder/creel_tests_io"

# Users without a name and without a process, one for each case that runs at the same time.
users=()
for ((id = 61234; ${#users[@]} < jobs; ++id)); do
    if ! getent passwd "$id" >/dev/null && ! getent group "$id" >/dev/null &&
        [[ -z $(find /proc -maxdepth 1 -uid "$id" -print -quit 2>/dev/null) ]]; then
        users+=("$id")
    fi
done

# as_user COMMAND...: runs the command as the user that ctest has assigned, or as the first one.
cat >"$folder/as_user" <<END
#!/bin/sh
user=\${CTEST_RESOURCE_GROUP_0_USERS:-id:${users[0]}}
user=\${user#id:}
user=\${user%%,*}
exec prlimit --memlock="\${MEMLOCK:-8388608}" \\
    setpriv --reuid="\$user" --regid="\$user" --clear-groups --bounding-set=-all "\$@"
END
chmod 755 "$folder/as_user"

# The planted fault: the memory of a ring must not fit in 64 KiB. If it does, the limit has no
# effect here.
planted=("$folder/as_user" "$folder/creel_tests_io" '[.planted]')
cd "$folder"
"${planted[@]}" >"$folder/planted" 2>&1 || {
    cat "$folder/planted" >&2
    say "user ${users[0]} can have no ring at all"
    exit 1
}
if MEMLOCK=65536 "${planted[@]}" >"$folder/planted" 2>&1; then
    say "this kernel does not count rings as locked memory: only the lack of privilege is tested"
elif ! grep -q 'Cannot allocate memory' "$folder/planted"; then
    cat "$folder/planted" >&2
    say 'with 64 KiB of locked memory a ring is refused, but for another reason'
    exit 1
fi

cat >"$folder/CTestTestfile.cmake" <<END
set(executable $folder/creel_tests_io)
set(prefix io)
set(launcher $folder/as_user)
set(timeout 60)
set(environment "")
set(resources users:1)
include([==[$tree/cmake/CreelDiscover.cmake]==])
add_test("io: all of them in one process"
    $folder/as_user $folder/creel_tests_io ~[stress]~[.])
set_tests_properties("io: all of them in one process" PROPERTIES
    TIMEOUT 180 COST 30 RESOURCE_GROUPS users:1)
END
{
    printf '{"version": {"major": 1, "minor": 0}, "local": [{"users": ['
    printf '{"id": "%s"},' "${users[@]}" | sed 's/,$//'
    printf ']}]}\n'
} >"$folder/users.json"

say "running the io tests as the users ${users[*]}, each with 8 MiB of locked memory"
ctest --test-dir "$folder" --output-on-failure --no-tests=error --no-label-summary \
    --resource-spec-file "$folder/users.json" -j "$jobs" -LE stress ${regex:+-R "$regex"} \
    ${CREEL_JUNIT:+--output-junit "$CREEL_JUNIT"}
