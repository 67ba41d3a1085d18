using System.Diagnostics;
using System.Net;
using System.Text;
using System.Text.Json;
using Xunit;

namespace IptNative.Cli.Tests.Commands;

/// <summary>The server as a process: its address, its signals, its exit code. What it answers: Server.Tests.</summary>
public sealed class ServeCommandTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("iptnative-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task ItServesUntilItIsAskedToStop()
    {
        using Process process = CliProgram.Start("serve", "--model", CliProgram.Model, "--prompts", _folder, "--port", "0", "--threads", "1");
        Task<string> error = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        Assert.Equal("serving t5-gym-tiny", await process.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken));
        string listening = await process.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken) ?? "";
        Assert.StartsWith("listening on http://127.0.0.1:", listening, StringComparison.Ordinal);
        using var client = new HttpClient { BaseAddress = new Uri(listening["listening on ".Length..]) };
        using var body = new StringContent("""{"model": "t5-gym-tiny", "prompt": "[clinc150-domain] what is my balance"}""", Encoding.UTF8, "application/json");
        using HttpResponseMessage answer = await client.PostAsync("v1/completions", body, TestContext.Current.CancellationToken);
        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
        using var json = JsonDocument.Parse(await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
        Assert.Equal("banking", json.RootElement.GetProperty("choices")[0].GetProperty("text").GetString());

        if (OperatingSystem.IsWindows())
        {
            // There is no signal that a process could send to another there.
            process.Kill();
            return;
        }
        using (Process kill = Process.Start("kill", ["-TERM", $"{process.Id}"]))
            await kill.WaitForExitAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.Equal(0, process.ExitCode);
        Assert.Contains("stopping; running requests have 30 seconds", await error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--host 0.0.0.0", 2, "there is no token. Give --token-file FILE, or --no-token")]
    [InlineData("--host nowhere", 2, "--host is 'nowhere', expected an IP address")]
    [InlineData("--port 99999", 2, "port is 99999, expected 0 (any free one) to 65535")]
    [InlineData("--drain-seconds -1", 2, "--drain-seconds is -1, expected 0 to 3600")]
    [InlineData("--max-queue 0", 2, "max-queue is 0, expected 1 or more")]
    [InlineData("--token-file missing.txt", 1, "reading the token; there is no such file")]
    [InlineData("--prompts missing-folder", 1, "reading prompts; there is no such folder")]
    public void WhatCannotBeServedIsSaid(string arguments, int code, string message) =>
        CliProgram.Run(["serve", "--model", CliProgram.Model, .. arguments.Split(' ')]).Returned(code).Says(message);

    [Fact]
    public void AShortTokenIsRefused()
    {
        string file = Path.Combine(_folder, "token");
        File.WriteAllText(file, "short\n");
        CliProgram.Run("serve", "--model", CliProgram.Model, "--token-file", file).Returned(1).Says("its first line has 5 characters, expected at least 16");
    }
}
