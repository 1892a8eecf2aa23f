# The client libraries, from their registries at fixed versions, kept in the cache: what `run` and
# `tutorials/run` build their programs against. Each function prints a directory or a path.
#
# Invariant: a cache entry's name holds everything it was made of (versions, sources, tool chain).
# Sourced after lib.sh.
# shellcheck shell=bash disable=SC2154 # lib.sh sets root, the script app

pika_version=1.4.4
aio_pika_version=10.2.1
amqplib_version=2.0.0
java_client_version=5.35.0

# The interpreter's version in short, as in cpython-311: what an environment is made for.
python_tag() { python3 -c 'import sys; print(sys.implementation.cache_tag)'; }

# A virtual environment with pika and aio-pika.
python_clients() {
  python3 -c 'import ensurepip' 2>/dev/null || apt install python3-venv
  once "python-$pika_version-$aio_pika_version-$(python_tag)" make_python_clients
}
make_python_clients() {
  python3 -m venv .
  bin/pip install --quiet --disable-pip-version-check \
    "pika==$pika_version" "aio-pika==$aio_pika_version"
}

# A folder with amqplib in node_modules; programs find it through NODE_PATH.
node_clients() {
  need_node
  once "amqplib-client-$amqplib_version" make_node_clients
}
make_node_clients() {
  echo '{"private": true}' >package.json
  npm install --silent --ignore-scripts "amqplib@$amqplib_version"
}

# python_packages REQUIREMENT...: a virtual environment with exactly these, for what $app names.
python_packages() {
  python3 -c 'import ensurepip' 2>/dev/null || apt install python3-venv
  once "app-$app-$(digest <<<"$*")-$(python_tag)" make_python_packages "$@"
}
make_python_packages() {
  python3 -m venv .
  bin/pip install --quiet --disable-pip-version-check "$@"
}

# node_packages NAME@VERSION...: a folder with these in node_modules, for what $app names.
node_packages() {
  need_node
  once "app-$app-$(digest <<<"$*")" make_node_packages "$@"
}
make_node_packages() {
  echo '{"private": true}' >package.json
  npm install --silent --ignore-scripts "$@"
}

# Debian 12's own Go and Node are older than the clients need. Newer ones come from where Go's
# modules and npm's packages come from: both publish their tool chains there, too.
go_least=1.20 go_version=1.24.6
node_least=20.11 node_version=20.19.5

need_go() {
  need_command go golang-go
  local version at
  version="$(go env GOVERSION)"
  is_version "$go_least" "${version#go}" && return
  need_command curl curl ca-certificates
  need_command unzip unzip
  at="$(once "go-$go_version" get_go)"
  export PATH="$at/bin:$PATH" GOROOT="$at" GOTOOLCHAIN=local
}
get_go() {
  local proxy machine
  proxy="$(go env GOPROXY)"
  case "$(uname -m)" in
    x86_64) machine=amd64 ;;
    aarch64) machine=arm64 ;;
    *) die "Go $go_least or later is needed, this is $(go env GOVERSION)" ;;
  esac
  machine="v0.0.1-go$go_version.linux-$machine"
  curl -sSfLo go.zip "${proxy%%[,|]*}/golang.org/toolchain/@v/$machine.zip"
  unzip -q go.zip
  rm go.zip
  mv "golang.org/toolchain@$machine"/* .
  rm -r golang.org
  # The zip knows no permissions.
  chmod +x bin/* pkg/tool/*/*
}

need_node() {
  need_command npm npm
  local version at
  version="$(node --version)"
  is_version "$node_least" "${version#v}" && return
  at="$(once "node-$node_version" get_node)"
  export PATH="$at/node_modules/node/bin:$PATH"
}
get_node() {
  echo '{"private": true}' >package.json
  # Its install script puts the binary in its place.
  npm install --silent "node@$node_version"
}

# go_programs FOLDER: a folder with the binaries of the Go module there, one per main package.
go_programs() {
  need_go
  # shellcheck disable=SC2046 # the sources' names hold no spaces
  once "go-$(digest $(find "$1" -name 'go.*' -o -name '*.go' | sort))" make_go_programs "$1"
}
make_go_programs() {
  local out="$PWD"
  (cd "$1" && go build -mod=readonly -o "$out/" ./...)
}

# A folder with the Java client and what it needs, as jars.
java_clients() {
  need_command javac default-jdk-headless
  need_command mvn maven
  once "java-$java_client_version" make_java_clients
}
make_java_clients() {
  cat >pom.xml <<POM
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>interop</groupId><artifactId>clients</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>com.rabbitmq</groupId><artifactId>amqp-client</artifactId>
      <version>$java_client_version</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-nop</artifactId><version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
POM
  mvn --quiet --batch-mode dependency:copy-dependencies -DoutputDirectory=.
}

# java_programs FOLDER: a folder with the classes of the sources there.
java_programs() {
  local jars
  jars="$(java_clients)"
  once "classes-$(digest "$1"/*.java)-$(basename "$jars")" \
    javac -Xlint:all -Werror -cp "$jars/*" -d . "$1"/*.java
}

# c_program SOURCE: the path of the program made from one C source and Debian's librabbitmq.
c_program() {
  local at
  [[ -f /usr/include/rabbitmq-c/amqp.h || -f /usr/include/amqp.h ]] || apt install librabbitmq-dev
  need_command cc build-essential
  at="$(once "c-$(digest "$1")" \
    cc -std=c11 -D_DEFAULT_SOURCE -O1 -Wall -Wextra -Werror "$1" -o program -lrabbitmq)"
  echo "$at/program"
}

# The path of the lapin program, a member of the checkout's Cargo workspace.
lapin_program() {
  # The release profile, whose dependencies the broker's own build shares.
  (cd "$root" && scripts/cargo build --quiet --release --locked -p interop-lapin) >&2
  echo "${CARGO_TARGET_DIR:-$root/target}/release/interop-lapin"
}
