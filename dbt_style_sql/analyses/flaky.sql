-- Configurations that alternate or regressed, most flips first
SELECT name, tier, course, known_flaky, passes, runs, flips, failing_streak
FROM mlcc_ci.flakiness
WHERE known_flaky OR course IN ('flake', 'regression')
ORDER BY flips DESC, name
