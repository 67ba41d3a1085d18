using System.Diagnostics;
using System.Text.Json.Nodes;
using Xunit;

namespace IptNative.Server.Tests;

/// <summary>OpenAI's client library from npm, unchanged.</summary>
public sealed class ClientLibraryTests
{
    private static string Scripts { get; } = Path.Combine(RunningServer.Root, "tests", "Server.Tests", "openai");

    [Fact]
    public async Task OpenAIsLibraryWorksUnchanged()
    {
        string folder = Directory.CreateTempSubdirectory("iptnative-openai-").FullName;
        try
        {
            foreach (string file in Directory.GetFiles(Scripts))
                File.Copy(file, Path.Combine(folder, Path.GetFileName(file)));
            (int installed, _, string why) = await Run("npm", folder, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=0", "--fetch-timeout=30000");
            Assert.SkipWhen(installed != 0, $"npm could not install openai {Path.Combine(Scripts, "package-lock.json")} (no Node.js, or no registry in reach): {why}");

            const string token = "0123456789abcdef";
            await using RunningServer running = await RunningServer.Start(change: o => o with { Token = token, MaxTokens = 50_000 });
            (int code, string output, string error) = await Run("node", folder, "client.mjs", new Uri(running.Server.Address, "v1").ToString(), token);
            Assert.True(code == 0, $"node ended with {code}: {error}{output}");
            JsonNode told = JsonNode.Parse(output)!; // the script writes an object
            Assert.Equal(["t5-gym-tiny", "p0", "p1", "p2"], told["models"]!.AsArray().Select(m => (string?)m));
            Assert.Equal(("p1", 3), ((string?)told["one"]!["id"], (int)told["one"]!["prompt_length"]!));
            JsonArray choices = told["whole"]!["choices"]!.AsArray();
            Assert.Equal([0, 1, 2, 3], choices.Select(c => (int)c!["index"]!));
            string[] streamed = ["", "", "", ""];
            JsonNode? usage = null;
            foreach (JsonNode? part in told["parts"]!.AsArray())
            {
                usage = part!["usage"] ?? usage;
                foreach (JsonNode? choice in part["choices"]!.AsArray())
                    streamed[(int)choice!["index"]!] += (string?)choice["text"];
            }
            Assert.Equal(choices.Select(c => (string?)c!["text"]), streamed);
            Assert.Equal(told["whole"]!["usage"]!.ToJsonString(), usage!.ToJsonString());
            // The two likeliest, and the token that was drawn where it is neither.
            JsonObject top = choices[0]!["logprobs"]!["top_logprobs"]![0]!.AsObject();
            Assert.InRange(top.Count, 2, 3);
            Assert.True(top.ContainsKey((string)choices[0]!["logprobs"]!["tokens"]![0]!));
            JsonArray errors = told["errors"]!.AsArray();
            Assert.Equal(("NotFoundError", 404, "model_not_found"), ((string?)errors[0]!["kind"], (int)errors[0]!["status"]!, (string?)errors[0]!["code"]));
            Assert.Equal(("BadRequestError", 400, "max_tokens"), ((string?)errors[1]!["kind"], (int)errors[1]!["status"]!, (string?)errors[1]!["param"]));
            Assert.Equal(("AuthenticationError", 401), ((string?)errors[2]!["kind"], (int)errors[2]!["status"]!));
            // The stream that was given up: draining ends with the last request, which is minutes away unless the server notices that its client left.
            Assert.True((int)told["heard"]! >= 1);
            await running.Server.DrainAsync(Timeout.InfiniteTimeSpan);
            Assert.Equal(1, running.Server.Metrics.AbandonedCompletions);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static async Task<(int Code, string Output, string Error)> Run(string program, string folder, params string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments) { WorkingDirectory = folder, RedirectStandardOutput = true, RedirectStandardError = true };
        try
        {
            using Process process = Process.Start(start) ?? throw new InvalidOperationException($"{program}: found no process.");
            Task<string> output = process.StandardOutput.ReadToEndAsync(), error = process.StandardError.ReadToEndAsync();
            await process.WaitForExitAsync(TestContext.Current.CancellationToken);
            return (process.ExitCode, await output, await error);
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            return (-1, "", e.Message);
        }
    }
}
