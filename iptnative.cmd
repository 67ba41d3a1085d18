@echo off
rem Runs the program; builds it first where that is needed (nothing is installed outside this folder). Linux and macOS: ./iptnative.
setlocal
call "%~dp0eng\bootstrap.cmd" prepare
if errorlevel 1 exit /b 1
set /p build=<"%~dp0artifacts\app\current"
"%~dp0artifacts\app\%build%\iptnative.exe" %*
exit /b %errorlevel%
