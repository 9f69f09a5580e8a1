#!/usr/bin/env bash
# Makes `cargo build --target wasm32-wasip2` work with the Rust toolchain of this machine.
#
# Three ways; the first that serves ends the search:
#   1. the target's std is already in the toolchain's sysroot: nothing to do;
#   2. `rustup target add wasm32-wasip2`: a machine with rustup and a network that reaches its server;
#   3. neither (mirror-only networks): take the std sources of the very same Rust release (package rust-src) and
#      wasi-libc from Debian, whose signatures apt checks, build std once, and lay it into the sysroot as rustup
#      would have. About a minute on two cores.
#
# Two of these may run at once (a lock), and one may be killed at any moment: everything is built in a temporary
# folder, and the sysroot only ever sees one rename.
set -euo pipefail

readonly target=wasm32-wasip2
sysroot=$(rustc --print sysroot)
rustlib=$sysroot/lib/rustlib
libdir=$rustlib/$target/lib
have() { compgen -G "$libdir/libstd-*.rlib" >/dev/null; }
fail() {
  echo "$target: $*" >&2
  echo "$target: hint: install it with \`rustup target add $target\` and run this again" >&2
  exit 1
}

have && exit 0
[ -w "$rustlib" ] || fail "the toolchain's folder $rustlib is not writable"
# Children inherit the lock: it is free only when the last of them is gone.
if command -v flock >/dev/null; then
  exec 9>"$rustlib/.$target.lock"
  flock -w 1200 9 || fail "another run has been holding $rustlib/.$target.lock for 20 minutes"
  have && exit 0
fi

if command -v rustup >/dev/null && command -v timeout >/dev/null; then
  if timeout 180 rustup target add "$target" >&2 && have; then
    echo "$target: added by rustup" >&2
    exit 0
  fi
  echo "$target: rustup could not add it" >&2
fi

for tool in apt-get dpkg awk sed; do
  command -v "$tool" >/dev/null || fail "it is not installed, and without $tool it cannot be built from Debian's sources"
done
release=$(rustc -vV | sed -n 's/^release: //p')
echo "$target: building std for Rust $release from Debian's rust-src (once per toolchain)" >&2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A private apt state, so that the machine's own package lists stay as they are.
mirror=$(sed -n 's/^URIs: *\([^ ]*\).*/\1/p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -n 1)
mirror=${mirror:-http://deb.debian.org/debian}
mkdir -p "$work"/{lists/partial,cache/archives/partial,packages,unpacked,probe/src,stage}
for suite in trixie-backports trixie sid; do
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
done >"$work/sources.list"
apt=(-qq -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
  -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
apt-get "${apt[@]}" update >&2
source_version=$(apt-cache "${apt[@]}" madison rust-src |
  awk -F'|' -v r="$release" '{gsub(/ /,"",$2)} !found && (index($2, r "+")==1 || index($2, r "-")==1) {found=$2} END {print found}')
[ -n "$source_version" ] || fail "Debian has no rust-src for Rust $release"
(cd "$work/packages" && apt-get "${apt[@]}" download "rust-src=$source_version" wasi-libc/trixie-backports >&2)
for package in "$work"/packages/*.deb; do dpkg -x "$package" "$work/unpacked"; done

printf '[package]\nname = "probe"\nversion = "0.0.0"\nedition = "2024"\n[workspace]\n' >"$work/probe/Cargo.toml"
# A library: nothing is linked, since the C library is not in the sysroot yet.
: >"$work/probe/src/lib.rs"
# Std of a stable toolchain is built with the unstable `-Zbuild-std`: the flag is for this one build, and only for it.
(cd "$work/probe" && RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Cembed-bitcode=yes \
  __CARGO_TESTS_ONLY_SRC_ROOT="$work/unpacked/usr/src/rustc-$release/library" CARGO_TARGET_DIR="$work/target" \
  cargo build --quiet --release -Zbuild-std=std,panic_abort --target "$target") >&2

# The temporary folder lies beside the final one, so that the rename does not cross a file system.
rm -rf "$rustlib/.$target".new.*
stage=$(mktemp -d "$rustlib/.$target.new.XXXXXX")
trap 'rm -rf "$work" "$stage"' EXIT
mkdir -p "$stage/lib/self-contained"
cp "$work/unpacked/usr/lib/$target"/{crt1-command.o,crt1-reactor.o,libc.a} "$stage/lib/self-contained/"
find "$work/target/$target/release/deps" -name '*.rlib' ! -name 'libprobe-*' -exec cp {} "$stage/lib/" \;
compgen -G "$stage/lib/libstd-*.rlib" >/dev/null || fail "the build of std left no library"
chmod 755 "$stage"
rm -rf "${rustlib:?}/$target"
mv -T "$stage" "$rustlib/$target"
echo "$target: installed into the toolchain" >&2
