// Boost.Beast's parsers, fed from memory: none of its streams, nothing of Asio's.
#pragma once

// Beast 1.81 asserts that at least 5 bytes are there when it comes back to the last chunk
// (basic_parser.ipp, parse_chunk_header). A peer who sends "0\r\n" and then "\r" breaks that, and
// the code behind it does not need it; so a debug build must not abort there.
#define BOOST_DISABLE_ASSERTS

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
