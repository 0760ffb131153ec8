// How the bytes of a Unix socket's name are written in text, and how a bad text is refused.
//
// A socket's name may hold any byte, and a hostile peer may choose it. So `escaped` writes each
// byte that could break or disguise a line of a log as \xHH, and the backslash as "\\". `unescaped`
// reads exactly that: unescaped(escaped(x)) == x for every x.
#pragma once

#include <string>
#include <string_view>

namespace creel::io::detail {

// What is escaped: see printable_bytes(). Threads: any.
[[nodiscard]] std::string escaped(std::string_view raw);

// Appends c as \xHH. Threads: any.
void append_hex(std::string& out, char c);

// `text` is the whole endpoint, for the message.
// Threads: any. Throws: std::invalid_argument for a control character that is not escaped, and for
// a backslash that begins no escape.
[[nodiscard]] std::string unescaped(std::string_view path, std::string_view text);

// In quotation marks and escaped, for messages; at most 120 bytes are shown. Threads: any.
[[nodiscard]] std::string quoted(std::string_view text);

// Threads: any. Throws: std::invalid_argument, always, with the text and the reason.
[[noreturn]] void refuse_endpoint(std::string_view text, std::string_view why);

} // namespace creel::io::detail
