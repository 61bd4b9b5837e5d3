# cmake -DIN=file -DOUT=file.c -DHEADER=x.h -DNAME=name -P Embed.cmake: the bytes
# of a file as `const unsigned char NAME[]` and `const size_t NAME_bytes`.
file(READ ${IN} hex HEX)
string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," hex "${hex}")
file(WRITE ${OUT} "#include \"${HEADER}\"\n\n"
    "const unsigned char ${NAME}[] = {\n${hex}};\n"
    "const size_t ${NAME}_bytes = sizeof(${NAME});\n")
