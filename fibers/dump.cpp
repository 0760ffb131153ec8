#include <creel/fibers/dump.hpp>

#include <creel/fibers/detail/inspect/asking_thread.hpp>
#include <creel/fibers/detail/inspect/dump.hpp>

#include <ostream>
#include <string>

namespace creel {

void dump_fibers(std::ostream& out, const dump_options& options) {
    std::string text;
    detail::on_asking_thread("a dump of all fibers", [&] { text = detail::make_dump(options); });
    out << text;
}

void dump_fibers(std::ostream& out, dump_format format) {
    dump_fibers(out, dump_options{.format = format});
}

} // namespace creel
