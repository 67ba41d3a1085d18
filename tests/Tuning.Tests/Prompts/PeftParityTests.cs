// Our logits behind a prompt against PEFT's own: from adapters that PEFT made (tests/Goldens/peft), and, where Python has PEFT, from one that we wrote.
using System.Diagnostics;
using IptNative.Model.Checkpoints;
using IptNative.Model.Forward;
using IptNative.Tuning.Parity;
using IptNative.Tuning.Prompts;
using Xunit;

namespace IptNative.Tuning.Tests.Prompts;

public sealed class PeftParityTests : IDisposable
{
    private static readonly string Goldens = Path.Combine(TinyModel.Root, "tests", "Goldens");
    private static readonly string Fixture = Path.Combine(Goldens, "t5v11");

    private readonly string _folder = Directory.CreateTempSubdirectory("iptnative-peft-").FullName;
    private readonly Checkpoint _checkpoint = Checkpoint.Open(Path.Combine(Fixture, "model.safetensors"));

    public void Dispose()
    {
        _checkpoint.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    [Theory]
    [InlineData("prompt_tuning", "", 3)]
    [InlineData("prompt_tuning_default", "", 3)] // two transformer submodules: six rows are saved, the first three are read
    [InlineData("p_tuning_mlp", "", 3)]
    [InlineData("p_tuning_lstm", "", 3)]
    [InlineData("multitask", "0", 3)]
    [InlineData("multitask", "1", 3)]
    [InlineData("multitask", "2", 3)]
    public void AnAdapterOfPeftsMeansWhatItMeansToPeft(string adapter, string task, int rows)
    {
        string folder = Path.Combine(Goldens, "peft", adapter);
        Prompt prompt = PromptFile.Read(task.Length == 0 ? folder : $"{folder}#{task}");
        Assert.Equal(rows, prompt.Length);
        Near(NumpyFile.Read(Path.Combine(folder, $"logits{task}.npy")).ToDoubles(), Logits(prompt));
    }

    [Fact]
    public void TasksOfAnAdapterDiffer()
    {
        string folder = Path.Combine(Goldens, "peft", "multitask");
        Assert.Equal(["0", "1", "2"], PromptSetFile.Names(folder));
        double[] first = NumpyFile.Read(Path.Combine(folder, "logits0.npy")).ToDoubles(), second = NumpyFile.Read(Path.Combine(folder, "logits1.npy")).ToDoubles();
        Assert.True(ParityTable.Distance(first, second) > 0.01, "a golden that cannot tell tasks apart proves nothing");
    }

    [Fact]
    public void PeftItselfLoadsWhatIsWritten()
    {
        string python = Environment.GetEnvironmentVariable("IPTNATIVE_PYTHON") ?? "python3";
        if (Answer(python, "-c", "import torch, transformers, peft") is { } reason)
            Assert.Skip($"'{python}' has no PEFT: {reason}. pip install peft, or name a Python that has it by IPTNATIVE_PYTHON.");
        var random = new Random(5);
        var prompt = new Prompt([.. Enumerable.Range(0, 4 * 32).Select(_ => (float)((random.NextDouble() - 0.5) * 6))], 4, 32);
        string adapter = Path.Combine(_folder, "adapter"), output = Path.Combine(_folder, "logits.npy");
        PeftPrompt.Write(adapter, prompt, Fixture, 2, 4);
        string? trouble = Answer(python, Path.Combine(TinyModel.Root, "tools", "export_onnx", "peft_logits.py"), "logits", Fixture, adapter, output);
        Assert.True(trouble is null, trouble);
        double[] theirs = NumpyFile.Read(output).ToDoubles();
        Near(theirs, Logits(prompt));
        Assert.True(ParityTable.Distance(theirs, Logits(null)) > 0.01, "without the prompt the logits would be the same");
    }

    private double[] Logits(Prompt? prompt)
    {
        var fixture = new ParityFixture(Fixture);
        using FrozenT5 model = FrozenT5.Load(_checkpoint, new FrozenT5Options { Threads = 1 });
        using PromptMemory? memory = prompt is null ? null : new PromptMemory(model.Device, prompt);
        T5Batch batch = fixture.Batch("input_ids", "labels", fixture.Lengths(), prompt is null ? -1 : 0);
        return ParityTable.Floats(model.Score(model.Encode(batch, memory?.Table), batch).Logits);
    }

    private void Near(double[] expected, double[] actual)
    {
        Assert.Equal(expected.Length, actual.Length);
        ParityTolerance tolerance = ParityTolerance.Float32(_checkpoint.Config, Kernels.DType.F32);
        double distance = ParityTable.Distance(expected, actual);
        Assert.True(distance <= tolerance.Relative, $"{distance:e2} of the largest logit, expected at most {tolerance.Relative:e2}: {tolerance.Reason}");
    }

    // Null where it went well, otherwise the last thing that was said.
    private static string? Answer(string program, params string[] words)
    {
        try
        {
            using Process process = Process.Start(new ProcessStartInfo(program, words) { RedirectStandardError = true, RedirectStandardOutput = true })!; // a process is always started: UseShellExecute is off
            Task<string> output = process.StandardOutput.ReadToEndAsync();
            string error = process.StandardError.ReadToEnd();
            process.WaitForExit();
            return process.ExitCode == 0 ? null : $"{output.GetAwaiter().GetResult()}{error}".TrimEnd().Split('\n')[^1];
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            return e.Message;
        }
    }
}
