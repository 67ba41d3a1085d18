using System.Diagnostics;
using System.Text.Json;
using Xunit;

namespace IptNative.Cli.Tests.Commands;

public sealed class EvaluateCommandTests : IDisposable
{
    private static readonly string Root = FindRoot();

    private readonly string _folder = Directory.CreateTempSubdirectory("iptnative-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    // The program as its own process: exit code and both streams are the contract.
    private static (int Code, string Output, string Error) Run(params string[] arguments)
    {
        string[] all = [Path.Combine(AppContext.BaseDirectory, "iptnative.dll"), "evaluate", .. arguments];
        using Process process = Process.Start(new ProcessStartInfo("dotnet", all) { WorkingDirectory = Root, RedirectStandardOutput = true, RedirectStandardError = true })!; // a process is started, no document opened
        Task<string> error = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        // A busy machine takes over two seconds, and then progress is told.
        return (process.ExitCode, output, CliProgram.WithoutProgress().Replace(error.Result, ""));
    }

    private static string FindRoot()
    {
        string folder = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(folder, "IptNative.sln")))
            folder = Path.GetDirectoryName(folder)!; // the tests lie inside the repository
        return folder;
    }

    [Fact]
    public void AShippedTaskIsScoredAsATableAndAsJson()
    {
        string predictions = Path.Combine(_folder, "answers.tsv");
        string[] task = ["--model", "models/t5-gym-tiny", "--task", "clinc150-domain", "--data", "examples/gym", "--task-prefix", "--metric", "em", "--metric", "classification_f1", "--limit", "40", "--threads", "1"];
        (int code, string output, string error) = Run([.. task, "--predictions", predictions, "--baselines"]);
        Assert.Equal((0, ""), (code, error));
        string[] lines = output.Split('\n');
        Assert.Equal("task clinc150-domain, test, 40 examples", lines[0]);
        Assert.Matches("^prompt +em +classification_f1 +mean +unfinished +no label$", lines[1]);
        Assert.Matches("^none +0\\.[0-9]{3} +0\\.[0-9]{3} +0\\.[0-9]{3} +0 +[0-9]+$", lines[2]);
        Assert.StartsWith("untuned ", lines[3], StringComparison.Ordinal);
        Assert.Equal(lines[2]["none".Length..].Trim(), lines[4]["untuned, [task]".Length..].Trim());
        Assert.StartsWith("always \"", lines[5], StringComparison.Ordinal);
        Assert.Equal(41, File.ReadAllLines(predictions).Length);

        (code, output, error) = Run([.. task, "--json", "--batch-size", "3"]);
        Assert.Equal((0, ""), (code, error));
        using JsonDocument json = JsonDocument.Parse(output);
        JsonElement result = json.RootElement.GetProperty("results")[0];
        Assert.Equal(40, json.RootElement.GetProperty("examples").GetInt32());
        Assert.Equal("none", result.GetProperty("prompt").GetString());
        Assert.StartsWith($"none{result.GetProperty("scores").GetProperty("em").GetDouble():0.000}", lines[2].Replace(" ", ""), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(2, "--split is valid, expected train, dev or test", "--split", "valid")]
    [InlineData(2, "Metric \"blue\" is unknown; expected one of acc", "--metric", "blue")]
    [InlineData(2, "--limit is 0, expected 1 or more", "--limit", "0")]
    [InlineData(2, "batch_size is 0; expected at least 1", "--batch-size", "0")]
    [InlineData(1, "reading a prompt; there is no such file or folder", "--prompt", "no-such-prompt")]
    [InlineData(1, "0 files for split train of seed 5", "--seed", "5")]
    public void MistakesAreNamedBeforeTheModelIsRead(int expected, string message, string option, string value)
    {
        (int code, string output, string error) = Run("--model", "no-such-model", "--task", "words-first", "--data", "examples/gym", option, value);
        Assert.Equal((expected, ""), (code, output));
        Assert.Contains(message, error, StringComparison.Ordinal);
    }
}
