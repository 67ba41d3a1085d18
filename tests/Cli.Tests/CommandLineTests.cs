// What a user meets at the command line: exit codes, the messages to act on, the shapes of --json.
using System.Text.Json;
using IptNative.Cli.Terminal;
using Xunit;

namespace IptNative.Cli.Tests;

public sealed class CommandLineTests : IDisposable
{
    private const string Question = "[clinc150-domain] what is my balance";

    private readonly string _folder = Directory.CreateTempSubdirectory("iptnative-cli-").FullName;

    [Fact]
    public void AnswersAQuestion()
    {
        CliRun run = CliProgram.Run("generate", "--model", CliProgram.Model, "--input", Question).Returned(0);
        Assert.Equal("banking\n", run.Output);
        Assert.Equal("", run.Error);
    }

    [Fact]
    public void AnswersAPipeAndAFileAlike()
    {
        string file = Write("questions.jsonl", $$"""
            {"text": "{{Question}}"}
            {"input": "{{Question}}", "text": "not this field"}
            {"text": "a \ud800 b"}

            """);
        CliRun fromFile = CliProgram.Run("generate", "--model", CliProgram.Model, "--input-file", file, "--jsonl", "--json", "--max-length", "6").Returned(0);
        CliRun fromPipe = CliProgram.Run(File.ReadAllText(file), ["generate", "--model", CliProgram.Model, "--input-file", "-", "--jsonl", "--json", "--max-length", "6", "--batch-size", "1"]).Returned(0);
        Assert.Equal(3, fromFile.Lines.Length);
        for (int i = 0; i < 3; i++)
        {
            JsonElement a = JsonDocument.Parse(fromFile.Lines[i]).RootElement, b = JsonDocument.Parse(fromPipe.Lines[i]).RootElement;
            Assert.Equal(["input", "output", "ids", "score", "finish"], a.EnumerateObject().Select(p => p.Name));
            Assert.Equal(a.GetProperty("ids").GetRawText(), b.GetProperty("ids").GetRawText());
            Assert.Equal(i < 2 ? "banking" : b.GetProperty("output").GetString(), a.GetProperty("output").GetString());
            Assert.Contains(a.GetProperty("finish").GetString(), (string[])["eos", "length"]);
        }
    }

    [Fact]
    public void TokenizesAsTheReference()
    {
        string golden = Path.Combine(CliProgram.Root, "tests", "Goldens", "tokenizer", "t5_spiece.golden.jsonl");
        CliRun run = CliProgram.Run("tokenize", "--vocabulary", Path.Combine(Path.GetDirectoryName(golden)!, "t5_spiece.model"), "--jsonl", "--input-file", golden).Returned(0);
        string[] expected = File.ReadAllLines(golden);
        Assert.Equal(320, expected.Length);
        Assert.Equal(320, run.Lines.Length);
        for (int i = 0; i < expected.Length; i++)
        {
            JsonElement e = JsonDocument.Parse(expected[i]).RootElement, a = JsonDocument.Parse(run.Lines[i]).RootElement;
            Assert.Equal(["ids", "pieces", "decoded"], a.EnumerateObject().Select(p => p.Name));
            Assert.Equal(e.GetProperty("ids").EnumerateArray().Select(v => v.GetInt32()), a.GetProperty("ids").EnumerateArray().Select(v => v.GetInt32()));
            Assert.Equal(e.GetProperty("pieces").EnumerateArray().Select(v => v.GetString()), a.GetProperty("pieces").EnumerateArray().Select(v => v.GetString()));
            Assert.Equal(e.GetProperty("decoded").GetString(), a.GetProperty("decoded").GetString());
        }
    }

    [Fact]
    public void ParityAsATableAndAsJson()
    {
        CliRun table = CliProgram.Run("parity", CliProgram.Fixture, "--checkpoint", Path.Combine(CliProgram.Fixture, "pytorch_model.bin")).Returned(0);
        Assert.Contains("0 failed", table.Lines[^1], StringComparison.Ordinal);
        JsonElement json = JsonDocument.Parse(CliProgram.Run("parity", CliProgram.Fixture, "--json").Returned(0).Output).RootElement;
        Assert.True(json.GetProperty("passed").GetBoolean());
        Assert.Equal("f32", json.GetProperty("dtype").GetString());
        JsonElement logits = json.GetProperty("quantities").EnumerateArray().Single(q => q.GetProperty("name").GetString() == "logits");
        Assert.Equal("passed", logits.GetProperty("status").GetString());
        Assert.InRange(logits.GetProperty("max_rel").GetDouble(), 0, logits.GetProperty("tolerance").GetDouble());
    }

    [Fact]
    public void ExportsAPackageOnceAndAnswersFromIt()
    {
        string package = Path.Combine(_folder, "deep", "package");
        CliRun run = CliProgram.Run("export", "--checkpoint", CliProgram.Model, "--out", package, "--dtype", "bf16").Returned(0);
        Assert.Equal(package + "\n", run.Output);
        Assert.Equal("banking\n", CliProgram.Run("generate", "--model", package, "--input", Question).Returned(0).Output);
        CliProgram.Run("export", "--checkpoint", CliProgram.Model, "--out", package).Returned(1).Says("there is one already. Choose another --out, or replace it with --overwrite.");
        CliProgram.Run("export", "--checkpoint", CliProgram.Model, "--out", package, "--overwrite").Returned(0);

        string data = Path.Combine(package, "model.onnx_data");
        byte[] bytes = File.ReadAllBytes(data);
        bytes[bytes.Length / 2] ^= 1;
        File.WriteAllBytes(data, bytes);
        CliProgram.Run("generate", "--model", package, "--input", Question).Returned(1).Says("The file was changed after the export; copy or export the package again.");
        CliProgram.Run("export", "--checkpoint", package, "--out", package + "2").Returned(1).Says("found sha256");
        Assert.Equal(["package"], Directory.EnumerateFileSystemEntries(Path.GetDirectoryName(package)!).Select(Path.GetFileName));
    }

    [Fact]
    public void DoctorSaysWhatThisBuildIsMadeOf()
    {
        Assert.Contains("ONNX Runtime", CliProgram.Run("doctor").Returned(0).Output, StringComparison.Ordinal);
        JsonElement json = JsonDocument.Parse(CliProgram.Run("doctor", "--json").Returned(0).Output).RootElement;
        Assert.All(json.EnumerateObject(), item => Assert.NotEqual("", item.Value.GetProperty("found").GetString()));
    }

    [Theory]
    [InlineData("generate")]
    [InlineData("tokenize")]
    [InlineData("export")]
    [InlineData("parity")]
    [InlineData("doctor")]
    [InlineData("train")]
    [InlineData("ipt")]
    [InlineData("evaluate")]
    [InlineData("inspect")]
    [InlineData("prompts")]
    [InlineData("transfer")]
    [InlineData("sweep")]
    [InlineData("serve")]
    [InlineData("plan")]
    [InlineData("bench step")]
    [InlineData("profile")]
    public void HelpHasExamplesAndAsksForNothing(string command)
    {
        CliRun run = CliProgram.Run([.. command.Split(' '), "--help"]).Returned(0);
        Assert.Contains($"Examples:\n  iptnative {command}", run.Output.ReplaceLineEndings("\n"), StringComparison.Ordinal);
        Assert.Equal("", run.Error);
    }

    [Theory]
    [InlineData("", "no command was given, expected train, ")]
    [InlineData("genrate --input x", "there is no command 'genrate'; the nearest is 'generate'")]
    [InlineData("generate --input x", "'--model' is required")]
    [InlineData("generate --model M --input x --num-beems 3", "there is no option '--num-beems'; the nearest is '--num-beams'")]
    [InlineData("generate --model M --input x --xyzzy", "there is no option '--xyzzy'.")]
    [InlineData("generate --model M --input x --num-beams abc", "--num-beams is 'abc', expected a whole number")]
    [InlineData("generate --model M --input x --top-p much", "--top-p is 'much', expected a number")]
    [InlineData("generate --model M --input x --num-beams 0", "num_beams is 0; expected 1 to 256")]
    [InlineData("generate --model M --input x --max-length 0", "max_length is 0; expected at least 1")]
    [InlineData("generate --model M --input x --batch-size 0", "--batch-size is 0, expected 1 or more")]
    [InlineData("generate --model M --input x --threads 100000", "--threads is 100000, expected 0 (every core) to")]
    [InlineData("generate --model M --input x --max-source-length 1", "--max-source-length is 1, expected 0 (no limit) or 2")]
    [InlineData("generate --model M --input x --temperature 2", "--temperature acts on sampling only")]
    [InlineData("generate --model M", "no input: standard input is empty")]
    [InlineData("tokenize --input x", "give exactly one of --model DIR and --vocabulary FILE")]
    [InlineData("export --checkpoint no-such-folder --out no-such-out --dtype int3", "--dtype is 'int3', expected ")]
    [InlineData("parity", "no fixture was given")]
    public void UsageErrorsReturnTwo(string line, string message) => Run(line).Returned(2).Says(message);

    [Theory]
    [InlineData("generate --model no-such-org/no-such-t5 --input x", "Fetch it with 'hf download no-such-org/no-such-t5'")]
    [InlineData("generate --model ./nothing --input x", "there is no such file or folder. Give a folder with config.json and weights")]
    [InlineData("generate --model M --input-file nothing.txt", "nothing.txt: reading input; there is no such file")]
    [InlineData("generate --model M --input x --prompt nothing.npy", "nothing.npy: reading a prompt; there is no such file or folder")]
    [InlineData("generate --model M --input x --prompt F/prompt.npy", "the prompt has shape [10, 32], the model has d_model=128")]
    [InlineData("generate --model F --input x", "found neither spiece.model nor tokenizer.json")]
    [InlineData("parity nothing", "there is no such folder")]
    [InlineData("parity M", "found no expected.json")]
    public void FailuresReturnOne(string line, string message) => Assert.Equal("", Run(line).Returned(1).Says(message).Output);

    [Fact]
    public void AnEmptyTextHasNothingToAnswer() =>
        CliProgram.Run("generate", "--model", CliProgram.Model, "--input", "").Returned(1).Says("input 1 (an empty text) has no token, expected one or more");

    [Fact]
    public void ALongTextIsAnsweredCutOrRefusedWithNumbers()
    {
        // 'q' is a token of its own: 400,000 of them need 4.7 TiB of attention scores in ONNX Runtime, more than half of any machine that runs tests.
        string file = Write("long.txt", new string('q', 400_000) + "\n"), shorter = Write("shorter.txt", new string('q', 10_000) + "\n");
        CliProgram.Run("generate", "--model", CliProgram.Model, "--input-file", file, "--forward", "ort").Returned(1).Says("positions need 4768.4 GiB for attention");
        // Our own kernels never hold scores whole: length costs time there, not memory.
        Assert.Single(CliProgram.Run("generate", "--model", CliProgram.Model, "--input-file", shorter, "--max-length", "2").Returned(0).Lines);
        Assert.Single(CliProgram.Run("generate", "--model", CliProgram.Model, "--input-file", file, "--max-source-length", "128", "--max-length", "2").Returned(0).Lines);
    }

    [Fact]
    public void BytesThatAreNoTextAreNamed()
    {
        string file = Path.Combine(_folder, "latin1.txt");
        File.WriteAllBytes(file, [(byte)'a', 0xE9, (byte)'\n']);
        CliProgram.Run("tokenize", "--model", CliProgram.Model, "--input-file", file).Returned(1).Says("found bytes that are no UTF-8").Says("Convert the file to UTF-8.");
        string jsonl = Write("x.jsonl", "{\"text\": \"fine\"}\n{\"txt\": 1}\n");
        CliProgram.Run("tokenize", "--model", CliProgram.Model, "--jsonl", "--input-file", jsonl).Returned(1).Says("line 2 has no string field 'text'. With --jsonl each line is an object such as {\"text\": \"hello\"}.");
    }

    [Fact]
    public void WhatIsDeniedComesWithAWayOut()
    {
        // Not by a folder's rights: who runs the tests as root is denied nothing.
        Assert.Equal("Access to the path '/out' is denied. Give another file or folder, or the right to this one to the user who runs the program.",
            ExitCode.Describe(new UnauthorizedAccessException("Access to the path '/out' is denied.")));
        Assert.Equal("x is 0.", ExitCode.Describe(new ArgumentException("x is 0.", "count")));
    }

    [Fact]
    public void AFixtureThatLacksAnArrayIsNamed()
    {
        foreach (string name in (string[])["expected.json", "config.json", "model.safetensors", "prompt.npy"])
            File.Copy(Path.Combine(CliProgram.Fixture, name), Path.Combine(_folder, name));
        CliProgram.Run("parity", _folder).Returned(1).Says("found no").Says(".npy, expected one. Copy the fixture again");
    }

    [Fact]
    public async Task AReaderWhoHasSeenEnoughEndsTheProgramQuietly()
    {
        if (OperatingSystem.IsWindows())
            return; // No signals and other pipes there; the Unix path is the one under test.
        using var process = CliProgram.Start("generate", "--model", CliProgram.Model, "--max-length", "2", "--batch-size", "1");
        Task<string> error = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        Task endless = Task.Run(() =>
        {
            try
            {
                while (true)
                    process.StandardInput.WriteLine(Question);
            }
            catch (IOException)
            {
                process.StandardInput.Dispose(); // The program has ended, as it should.
            }
        }, TestContext.Current.CancellationToken);
        Assert.Equal("banking", await process.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken));
        process.StandardOutput.Close();
        CliRun run = CliProgram.Ended(process, Task.FromResult(""), error);
        Assert.Equal(0, run.Code);
        Assert.DoesNotContain("xception", run.Error, StringComparison.Ordinal);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static CliRun Run(string line) => CliProgram.Run([.. line.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(word =>
        word == "M" ? CliProgram.Model : word == "F" ? CliProgram.Fixture : word.Replace("F/", CliProgram.Fixture + "/", StringComparison.Ordinal))]);

    private string Write(string name, string text)
    {
        string path = Path.Combine(_folder, name);
        File.WriteAllText(path, text);
        return path;
    }
}
