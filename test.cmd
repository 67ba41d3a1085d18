@echo off
rem Builds everything and runs every test project: test, test --all (slower extras too), test NAME... (projects by name).
rem The last line counts: N passed, N failed, N skipped. Linux and macOS: ./test.
call "%~dp0eng\bootstrap.cmd" test %*
exit /b %errorlevel%
