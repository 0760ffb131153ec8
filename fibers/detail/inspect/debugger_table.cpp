#include <creel/fibers/detail/inspect/debugger_table.hpp>

#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/wait_list.hpp>

#include <algorithm>
#include <cstddef>
#include <iterator>

// gdb executes the text of this section, which is a part of the program's file and of no process,
// if its auto-load safe-path allows it (gdb's manual, "The .debug_gdb_scripts section"). The linker
// keeps one copy. `strip -g` drops it.
asm(".pushsection \".debug_gdb_scripts\", \"MS\", %progbits, 1\n"
    ".byte 4\n" // a Python script follows
    ".ascii \"gdb.inlined-script.creel\\n\"\n"
    ".incbin \"" CREEL_GDB_SCRIPT "\"\n"
    ".byte 0\n"
    ".popsection\n");

// GCC and clang know these offsets also where the standard leaves them open: in classes with bases,
// none of which is virtual.
#pragma GCC diagnostic ignored "-Winvalid-offsetof"
#ifndef __clang__ // GCC asks whether the friend of a template is to be a template. It is not.
#pragma GCC diagnostic ignored "-Wnon-template-friend"
#endif

namespace creel::detail {

namespace {

using table_entry = debugger_table::entry;

struct entry_text {
    template <std::size_t Bytes>
    consteval entry_text(const char (&literal)[Bytes]) { // NOLINT
        static_assert(Bytes <= sizeof text);
        std::copy_n(literal, Bytes, text);
    }
    char text[sizeof table_entry::name]{};
};

// The names in an explicit instantiation are not checked for access ([temp.spec.general]/6). So it
// may name private members, and no class needs to know that a debugger looks at it.
template <entry_text Name>
struct debugger_name {
    friend constexpr auto found_for(debugger_name) noexcept;
};
template <entry_text Name, auto Found>
struct debugger_member {
    friend constexpr auto found_for(debugger_name<Name>) noexcept { return Found; }
};

template struct debugger_member<"scheduler.all", &scheduler::all_>;
template struct debugger_member<"scheduler.next_made", offsetof(scheduler, next_made_)>;
template struct debugger_member<"scheduler.current", offsetof(scheduler, current_)>;
template struct debugger_member<"scheduler.main", offsetof(scheduler, main_)>;
template struct debugger_member<"scheduler.thread", offsetof(scheduler, thread_)>;
template struct debugger_member<"scheduler.natives",
                                offsetof(scheduler, natives_.records_.living_)>;
template struct debugger_member<"scheduler.max_fibers", offsetof(scheduler, options_.max_fibers)>;
template struct debugger_member<"waiter.kind", offsetof(waiter, kind_)>;
template struct debugger_member<"list_waiter.place", offsetof(list_waiter, place_)>;
template struct debugger_member<"list_waiter.who", offsetof(list_waiter, who_)>;
template struct debugger_member<"lock.what", offsetof(wait_lock, label_.what)>;
template struct debugger_member<"lock.made_at", offsetof(wait_lock, label_.made_at)>;

template <entry_text Name>
consteval table_entry entry_with(std::uint64_t value) {
    table_entry made{{}, value};
    std::copy_n(Name.text, sizeof Name.text, made.name);
    return made;
}
template <entry_text Name>
consteval table_entry private_entry() {
    return entry_with<Name>(found_for(debugger_name<Name>{}));
}

// The script knows the members of std::string, std::string_view and std::unordered_map in this
// library only.
#if defined(__GLIBCXX__) && !defined(_GLIBCXX_DEBUG) && _GLIBCXX_USE_CXX11_ABI
constexpr bool is_plain_libstdcxx = true;
#else
constexpr bool is_plain_libstdcxx = false;
#endif

constexpr table_entry debugger_entries[] = {
    entry_with<"libstdcxx">(is_plain_libstdcxx),
    private_entry<"scheduler.next_made">(),
    private_entry<"scheduler.current">(),
    private_entry<"scheduler.main">(),
    private_entry<"scheduler.thread">(),
    private_entry<"scheduler.natives">(),
    private_entry<"scheduler.max_fibers">(),
    entry_with<"fiber.bytes">(sizeof(fiber_record)),
    entry_with<"fiber.id">(offsetof(fiber_record, id)),
    entry_with<"fiber.context">(offsetof(fiber_record, context)),
    entry_with<"fiber.waiting_on">(offsetof(fiber_record, waiting_on)),
    entry_with<"fiber.outermost">(offsetof(fiber_record, outermost)),
    entry_with<"task.bytes">(sizeof(task_record)),
    entry_with<"task.next">(offsetof(task_record, next)),
    entry_with<"task.parent">(offsetof(task_record, parent)),
    entry_with<"task.runner">(offsetof(task_record, runner)),
    entry_with<"task.kind">(offsetof(task_record, kind_of_closure)),
    entry_with<"task.id">(offsetof(task_record, id)),
    entry_with<"task.spawned_at">(offsetof(task_record, spawned_at)),
    entry_with<"task.name">(offsetof(task_record, given_name)),
    entry_with<"task.in_line">(offsetof(task_record, in_line)),
    entry_with<"task_kind.label">(offsetof(closure_kind, label.call)),
    entry_with<"task_kind.number">(offsetof(closure_kind, label.number)),
    entry_with<"scope.inner">(offsetof(scope_core, inner)),
    entry_with<"scope.nursery">(offsetof(scope_core, nursery)),
    entry_with<"nursery.first_child">(offsetof(nursery_core, first_child)),
    entry_with<"nursery.children">(offsetof(nursery_core, children)),
    entry_with<"nursery.joiner">(offsetof(nursery_core, joiner)),
    entry_with<"nursery.name">(offsetof(nursery_core, name)),
    private_entry<"waiter.kind">(),
    entry_with<"waiter_kind.describe">(offsetof(waiter_kind, describe)),
    entry_with<"waiter_kind.withdraw">(offsetof(waiter_kind, withdraw)),
    private_entry<"list_waiter.place">(),
    private_entry<"list_waiter.who">(),
    private_entry<"lock.what">(),
    private_entry<"lock.made_at">(),
};

} // namespace

} // namespace creel::detail

constinit const creel::detail::debugger_table creel_debugger_table{
    creel::detail::debugger_table::this_version, std::size(creel::detail::debugger_entries),
    creel::detail::debugger_entries, found_for(creel::detail::debugger_name<"scheduler.all">{})};
