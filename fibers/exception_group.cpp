#include <creel/fibers/exception_group.hpp>

#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/error_origin.hpp>

#include <algorithm>
#include <cstdlib>
#include <cxxabi.h>
#include <memory>
#include <typeinfo>
#include <unordered_set>
#include <utility>

namespace creel {

namespace {

// The most messages in what(), which often becomes one line of a log.
constexpr std::size_t most_told = 16;

std::vector<std::exception_ptr> flatten(const std::vector<std::exception_ptr>& errors) {
    std::vector<std::exception_ptr> flat;
    std::unordered_set<const void*> known; // a nursery may have many thousands of errors
    const auto add = [&](const std::exception_ptr& error) {
        if (known.insert(detail::object_of(error)).second)
            flat.push_back(error);
    };
    for (const std::exception_ptr& error : errors) {
        if (error == nullptr)
            continue;
        try {
            std::rethrow_exception(error);
        } catch (const exception_group& inner) {
            for (const std::exception_ptr& member : inner.errors())
                add(member);
        } catch (...) {
            add(error);
        }
    }
    return flat;
}

} // namespace

namespace detail {

std::string type_name_in_flight() {
    const std::type_info* type = abi::__cxa_current_exception_type();
    if (type == nullptr)
        return "unknown exception";
    int status = 0;
    std::unique_ptr<char, void (*)(void*)> name{
        abi::__cxa_demangle(type->name(), nullptr, nullptr, &status), std::free};
    return status == 0 ? name.get() : type->name();
}

} // namespace detail

std::string describe_exception(const std::exception_ptr& error) {
    if (error == nullptr)
        return "no exception";
    try {
        std::rethrow_exception(error);
    } catch (const std::exception& e) {
        if (const char* const text = e.what(); text != nullptr && *text != 0)
            return text;
        return "an exception of type " + detail::type_name_in_flight();
    } catch (const cancelled& c) {
        return "cancelled: " + c.reason().text;
    } catch (...) {
        return "an exception of type " + detail::type_name_in_flight();
    }
}

exception_group::content exception_group::describe(const std::vector<std::exception_ptr>& errors) {
    content all{flatten(errors), {}};
    all.what = std::to_string(all.errors.size()) + " errors:";
    const std::size_t told = std::min(all.errors.size(), most_told);
    for (std::size_t i = 0; i < told; ++i)
        all.what += " [" + describe_exception(all.errors[i]) + "]";
    if (told < all.errors.size())
        all.what += " and " + std::to_string(all.errors.size() - told) + " more";
    return all;
}

exception_group::exception_group(const std::vector<std::exception_ptr>& errors)
    : all_(std::make_shared<const content>(describe(errors))) {}

exception_group::~exception_group() = default;

} // namespace creel
