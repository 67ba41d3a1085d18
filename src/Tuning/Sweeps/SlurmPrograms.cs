// Starting Slurm's own programs. Deliberately not: what they are told and what their answers mean (SlurmArray).
using System.ComponentModel;
using System.Diagnostics;
using System.Text;

namespace IptNative.Tuning.Sweeps;

/// <summary>Slurm's programs as processes.</summary>
public static class SlurmPrograms
{
    /// <summary>Runs one; see <see cref="SlurmProgram"/>.</summary>
    /// <param name="program">Looked for on PATH.</param>
    /// <param name="arguments">Its words.</param>
    /// <param name="line">Told each line of the output at once.</param>
    /// <param name="cancel">Ends the program.</param>
    /// <returns>How it ended.</returns>
    /// <exception cref="IOException">It cannot be started.</exception>
    public static SlurmReply Run(string program, IReadOnlyList<string> arguments, Action<string>? line, CancellationToken cancel)
    {
        ArgumentNullException.ThrowIfNull(arguments);
        using var process = new Process { StartInfo = new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true } };
        var output = new StringBuilder();
        try
        {
            process.Start();
        }
        catch (Win32Exception e)
        {
            throw new IOException($"{program}: starting Slurm's program; {e.Message.TrimEnd('.')}. Install Slurm's client programs (Debian: slurm-client) on this machine and put them on PATH, or run shards yourself by --shard.", e);
        }
        Task<string> error = process.StandardError.ReadToEndAsync(CancellationToken.None);
        using (cancel.Register(process.Kill))
        {
            while (process.StandardOutput.ReadLine() is { } text)
            {
                output.Append(text).Append('\n');
                line?.Invoke(text);
            }
            process.WaitForExit();
        }
        return new SlurmReply(process.ExitCode, output.ToString(), error.GetAwaiter().GetResult());
    }
}
