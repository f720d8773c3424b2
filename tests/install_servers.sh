#!/bin/sh
# Installs from Debian's packages the servers and the browser that the drills start themselves, where they are missing;
# none of them is started here.
set -eu
PATH=$PATH:/usr/sbin:/sbin
missing=
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing postgresql"
command -v sshd >/dev/null || missing="$missing openssh-server"
command -v rsync >/dev/null || missing="$missing rsync"
command -v ip >/dev/null || missing="$missing iproute2"
command -v chromium >/dev/null || missing="$missing chromium"
test -n "$missing" || exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "missing:$missing. Install it first: sudo apt-get install$missing" >&2
    exit 2
fi
refuse=/usr/sbin/policy-rc.d # asked by each package whether its server may start
if [ ! -e "$refuse" ]; then
    trap 'rm -f "$refuse"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$refuse"
    chmod +x "$refuse"
fi
echo "installing:$missing"
apt-get -qq update
# shellcheck disable=SC2086 - each word is a package
DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends $missing >/dev/null
