#!/bin/bash
# Brings a Debian 12 or 13 machine to where `make` works: packages, Node, npm's packages.
# Does only what is missing; the second time it does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

# command or file that shows the package is there : package
needs="
nasm:nasm
gcc:gcc
/usr/include/stdio.h:libc6-dev
clang:clang
wasm2c:wabt
gdb:gdb
make:make
ld:binutils
/usr/lib/grub/i386-pc/linux.mod:grub-pc-bin
/usr/lib/grub/x86_64-efi/linux.mod:grub-efi-amd64-bin
grub-mkrescue:grub-common
xorriso:xorriso
mformat:mtools
/usr/lib/x86_64-linux-gnu/libelf.so.1:libelf1
xz:xz-utils
zstd:zstd
lz4:lz4
depmod:kmod
setpriv:util-linux
/usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring
/etc/ssl/certs/ca-certificates.crt:ca-certificates
"

say() { echo "setup: $*"; }

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# sbin is not on every user's path
has() {
	case $1 in
	/*) [ -e "$1" ] ;;
	*) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
	esac
}

# Node 20 or later, from the system or from build/node
node_works() {
	local version
	version=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null) && [ "$version" -ge 20 ] && npm --version >/dev/null 2>&1
}

install_packages() {
	local missing=() pair
	for pair in $needs; do
		has "${pair%%:*}" || missing+=("${pair##*:}")
	done
	if ! PATH=$PWD/build/node/bin:$PATH node_works && ! has npm; then missing+=(npm); fi
	[ ${#missing[@]} = 0 ] && return
	command -v apt-get >/dev/null || { say "please install: ${missing[*]}"; exit 1; }
	say "installing ${missing[*]}"
	as_root apt-get -qq update
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null
}

# Debian 12 has Node 18; the npm package `node` brings a program for itself.
install_node() {
	export PATH=$PWD/build/node/bin:$PATH
	node_works && return
	local version=24.21.0
	say "bringing Node $version into build/node"
	mkdir -p build/node/bin
	npm install --silent --no-audit --no-fund --no-save --prefix build/node "node@$version" "npm@11" >/dev/null
	local program
	program=$(find "$PWD/build/node/node_modules" -path '*/bin/node' -type f -perm -u+x | head -n 1)
	[ -n "$program" ] || { say "npm's package 'node' brought no program"; exit 1; }
	ln -sf "$program" build/node/bin/node
	for tool in npm npx; do
		ln -sf "../node_modules/npm/bin/$tool-cli.js" "build/node/bin/$tool"
	done
	node_works || { say "the Node in build/node does not run"; exit 1; }
}

install_npm_packages() {
	[ node_modules/.package-lock.json -nt package-lock.json ] && return
	say "installing npm's packages"
	npm ci --silent --no-audit --no-fund
	touch node_modules/.package-lock.json
}

stamp=build/setup.done
if [ "$stamp" -nt image/setup.sh ] && [ "$stamp" -nt package-lock.json ] && [ -d node_modules ]; then exit 0; fi
mkdir -p build
install_packages
install_node
install_npm_packages
touch "$stamp"
say "ready"
