// Checks a program of any style from outside: same_job_check JOB PROGRAM. The exit status is 0, or
// 1 after a line that says what the program did wrong.

#include "drivers/job.hpp"

#include <cstdio>
#include <exception>
#include <string>

int main(int argc, char** argv) {
    namespace same_job = creel::bench::same_job;
    if (argc == 3)
        for (const auto* job : same_job::jobs)
            if (std::string{job->name} == argv[1])
                try {
                    job->check(argv[2]);
                    return 0;
                } catch (const std::exception& error) {
                    std::fprintf(stderr, "%s is wrong: %s\n", argv[2], error.what());
                    return 1;
                }
    std::fprintf(stderr, "usage: same_job_check JOB PROGRAM\njobs:");
    for (const auto* job : same_job::jobs)
        std::fprintf(stderr, " %s", job->name);
    std::fprintf(stderr, "\n");
    return 2;
}
