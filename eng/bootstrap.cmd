@echo off
rem Builds the bootstrap program (eng\bootstrap, C#, no packages) when it is missing or says that it is old, then runs it:
rem prepare, resolve or test.
setlocal
set DOTNET_CLI_TELEMETRY_OPTOUT=1
set DOTNET_NOLOGO=1
for %%I in ("%~dp0..") do set "root=%%~fI"
where dotnet >nul 2>nul
if errorlevel 1 (
  echo iptnative: the .NET SDK was not found: there is no dotnet on PATH. Install the .NET SDK 10 and try again; nothing is installed for you. 1>&2
  exit /b 1
)
if exist "%root%\artifacts\bootstrap\bootstrap.dll" goto run
:build
pushd "%root%"
dotnet --version >nul 2>nul
if errorlevel 1 (
  echo iptnative: this needs the .NET SDK 10.0.100 or newer of the 10.0 line ^(global.json^). Installed are: 1>&2
  dotnet --list-sdks 1>&2
  popd
  exit /b 1
)
if exist artifacts\bootstrap rmdir /s /q artifacts\bootstrap
rem Built in a folder of its own, then renamed: a killed build leaves nothing that counts.
set "temporary=%root%\artifacts\bootstrap.%random%%random%"
dotnet build eng\bootstrap\Bootstrap.csproj -c Release -v q -nologo -tl:off -nodeReuse:false "-p:ArtifactsPath=%temporary%/" -p:UseSharedCompilation=false 1>&2
if errorlevel 1 (
  echo iptnative: the bootstrap program ^(eng\bootstrap^) did not build; see above. 1>&2
  popd
  exit /b 1
)
move "%temporary%\bin\Bootstrap\release" "%root%\artifacts\bootstrap" >nul
rmdir /s /q "%temporary%" 2>nul
popd
copy /b "%root%\artifacts\bootstrap\bootstrap.dll"+,, "%root%\artifacts\bootstrap\" >nul
:run
dotnet "%root%\artifacts\bootstrap\bootstrap.dll" "%root%" %*
set "code=%errorlevel%"
if "%code%"=="75" if not defined rebuilt (
  set rebuilt=1
  goto build
)
exit /b %code%
