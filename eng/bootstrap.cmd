@echo off
rem Builds the bootstrap program (eng\bootstrap, C#, no packages) when it is missing, then runs it: prepare, resolve or test.
rem After a change of eng\bootstrap itself, delete artifacts\bootstrap: there is no cheap way to compare times here.
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
pushd "%root%"
dotnet --version >nul 2>nul
if errorlevel 1 (
  echo iptnative: this needs the .NET SDK 10.0.100 or newer of the 10.0 line ^(global.json^). Installed are: 1>&2
  dotnet --list-sdks 1>&2
  popd
  exit /b 1
)
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
:run
dotnet "%root%\artifacts\bootstrap\bootstrap.dll" "%root%" %*
exit /b %errorlevel%
